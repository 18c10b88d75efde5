#include "src/engines/machine.h"

#include "src/engines/units.h"

namespace ldm::engines {

Status Machine::start() {
    const ort::Provider* provider = nullptr;
    if (settings_.engine != "openvino") LDM_TRY(ort::find_provider(scope_, settings_.provider, provider));
    auto put = [&](std::string_view text) {
        std::memcpy(chosen_ + chosen_size_, text.data(), text.size());
        chosen_size_ += text.size();
    };
    if (provider != nullptr) {
        put("ort:");
        put(provider->name);
    } else if (settings_.engine == "ort" || settings_.engine == "openvino") {
        put(settings_.engine);
    }
    return Status();
}

bool Machine::knows_engine(std::string_view name) {
    return name == "ort" || name == "openvino" || name == chosen_engine();
}

// OpenVINO's plugin is opened to know whether it is there. ONNX Runtime is what the other components need anyway.
bool Machine::misses(std::string_view engine, Failure& reason) {
    if (engine != "openvino") return false;
    openvino::Plugin plugin;
    Scope scope{scope_.memory, reason};
    return !plugin.open(scope, settings_.engine == "openvino" ? settings_.library : std::string_view()).ok();
}

bool Machine::computes_in(std::string_view engine, Precision precision, Failure& reason) {
    bool is_openvino = engine == "openvino", is_bf16 = precision == Precision::bf16;
    auto has_any = [&](std::initializer_list<std::string_view> units) {
        for (std::string_view unit : units) {
            if (has_unit(unit)) return true;
        }
        say_missing_units(name_of(precision), units, *this, reason);
        return false;
    };
    // Where a CPU has none of them, OpenVINO accepts bfloat16 all the same and emulates it: as lossy, and slower.
    if (is_openvino && is_bf16) return has_any({"avx512_bf16", "amx_bf16"});
    if (is_openvino && precision == Precision::fp16) return has_any({"avx512_fp16", "amx_fp16", "neon_fp16"});
    if (is_openvino && precision == Precision::fp32) return true;
    if (engine == "ort" && is_bf16) {
#if defined(__aarch64__) && defined(__linux__)
        return has_any({"neon_bf16"});
#else
        reason.set("", {"bf16 needs ARM and Linux: ONNX Runtime has kernels for no other CPU"});
        return false;
#endif
    }
    reason.set("", {name_of(precision), " is no precision that it computes in"});
    return false;
}

bool Machine::has_unit(std::string_view name) { return engines::has_unit(name); }

}  // namespace ldm::engines
