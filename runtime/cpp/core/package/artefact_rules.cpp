// Rules of a component's artefacts: names, formats, the requirements of plans; and of its key map.
#include <algorithm>

#include "core/codes.h"
#include "core/package/file_rules.h"
#include "core/package/rules.h"
#include "core/package/safetensors.h"
#include "core/package/values.h"

namespace ldm {

namespace {

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

// Numbers of up to `digits` digits, parted by points; returns how many, 0 where the text is no such thing.
std::size_t count_numbers(std::string_view text, std::size_t digits) {
    std::size_t count = 0;
    for (std::size_t start = 0; start <= text.size(); ++count) {
        std::size_t end = std::min(text.find('.', start), text.size());
        std::string_view number = text.substr(start, end - start);
        if (number.empty() || number.size() > digits || !std::all_of(number.begin(), number.end(), is_digit)) return 0;
        start = end + 1;
    }
    return count;
}

bool is_version(std::string_view text) {
    std::size_t numbers = count_numbers(text, 5);
    return numbers >= 2 && numbers <= 4;
}

bool is_capability(std::string_view text) {
    return count_numbers(text, 3) == 2 && text.size() - text.find('.') == 2;  // one digit behind the point
}

bool ends_in(std::string_view path, std::string_view ending) {
    return path.size() >= ending.size() && path.substr(path.size() - ending.size()) == ending;
}

// Whether a plan lies in engines/NAME.
bool is_in_engines(std::string_view path, std::string_view name) {
    constexpr std::string_view engines = "engines/";
    std::string_view folder = folder_of_file(path);
    return folder.substr(0, engines.size()) == engines && folder.substr(engines.size()) == name;
}

// Checks artefacts of one component.
class ArtefactRules {
public:
    ArtefactRules(Scope& scope, std::string_view name, const Component& component, const Manifest& manifest,
                  const json::Where& where)
        : scope_(scope), name_(name), component_(component), manifest_(manifest), where_(where) {}

    Status check_names();
    Status check_artefact(const Artefact& artefact, const json::Where& where);
    Status check_error(const Artefact& artefact, const json::Where& where);
    Status check_repair(const Artefact& artefact, const json::Where& where);
    Status check_format(const Artefact& artefact, const json::Where& where);
    Status check_plan(const PlanRequirements& plan, const json::Where& where);
    Status check_keys();

private:
    Status check_graph(const Artefact& artefact, const json::Where& where);
    bool are_own(View<std::string_view> files, std::string_view folder);
    Status find_once(View<std::string_view> names, bool& out);  // whether each is there once
    Status check_profile(const json::Map<Range>& profile, const json::Where& where);
    Status check_bytes(const std::optional<std::int64_t>& size, const json::Where& where);
    Status check_capabilities(const PlanRequirements& plan, const json::Where& where);
    Status refuse_files(const Artefact& artefact, const json::Where& where, std::initializer_list<Piece> expected);

    Status refuse(const json::Where& where, std::initializer_list<Piece> what) {
        return json::fail(scope_, where, codes::manifest_artefact, what);
    }
    Status refuse_plan(const json::Where& where, std::initializer_list<Piece> what) {
        return json::fail(scope_, where, codes::manifest_plan, what);
    }

    Scope& scope_;
    std::string_view name_;
    const Component& component_;
    const Manifest& manifest_;
    const json::Where& where_;
};

Status ArtefactRules::check_names() {
    json::Where here(where_, "artefacts");
    View<Artefact> artefacts = component_.artefacts;
    Array<std::string_view> names(scope_.memory);
    for (const Artefact& artefact : artefacts) LDM_NEED(scope_, names.push(artefact.name));
    std::sort(names.begin(), names.end());
    bool is_twice = std::adjacent_find(names.begin(), names.end()) != names.end();
    if (is_twice || artefacts.empty() || artefacts[0].name != canonical_name) {
        Status status = refuse(here, {"has the names "});
        add_names(scope_.failure, names.view());
        scope_.failure.add({"; expected 'canonical' first and each once"});
        return status;
    }
    if (component_.canonical().interface_.has_value()) {
        return refuse(here, {"has a canonical graph with an interface; expected the contract's"});
    }
    if (component_.canonical().format == "onnx" && component_.canonical().engine == "any") return Status();
    return refuse(here, {"has a canonical graph that is not ONNX for any engine"});
}

// What holds for every format, known to this runtime or not.
Status ArtefactRules::check_artefact(const Artefact& artefact, const json::Where& where) {
    LDM_TRY(check_label(scope_, artefact.name, {where, "name"}, codes::manifest_artefact));
    LDM_TRY(check_short_name(scope_, artefact.format, "onnx", {where, "format"}, codes::manifest_artefact));
    LDM_TRY(check_short_name(scope_, artefact.engine, "onnx", {where, "engine"}, codes::manifest_artefact));
    json::Where files(where, "files");
    if (artefact.files.empty()) return refuse(files, {"is empty"});
    for (std::string_view file : artefact.files) LDM_TRY(check_listed(scope_, file, manifest_, files));
    LDM_TRY(check_error(artefact, where));
    return check_repair(artefact, where);
}

Status ArtefactRules::check_error(const Artefact& artefact, const json::Where& where) {
    bool is_exact = artefact.exactness == Exactness::exact;
    if (!is_exact && artefact.precision == Precision::fp32 && !artefact.merged.has_value()) {
        return refuse(where, {"is lossy in fp32; expected a reduced precision or exact"});
    }
    if (is_exact && is_integer(artefact.precision)) {
        return refuse(where, {"is exact in ", name_of(artefact.precision), "; expected lossy"});
    }
    if (is_exact && artefact.merged.has_value()) {
        return refuse(where, {"is exact with merged tokens; expected lossy"});
    }
    double merged = artefact.merged.value_or(0.5);
    if (!(merged > 0.0 && merged < 1.0)) {
        return refuse({where, "merged"}, {"is ", exactly(merged), "; expected more than 0 and less than 1"});
    }
    if (is_exact || artefact.difference.has_value()) return Status();
    return refuse(where, {"is lossy without its measured difference"});
}

// What was done so that a graph stays finite in a reduced precision.
Status ArtefactRules::check_repair(const Artefact& artefact, const json::Where& where) {
    constexpr std::int64_t largest = std::int64_t{1} << 60;
    if (artefact.precision == Precision::fp32 && (!artefact.kept.empty() || artefact.rescaled.has_value())) {
        return refuse(where, {"has nodes kept or values rescaled in fp32; expected neither"});
    }
    json::Where kept(where, "kept");
    for (std::string_view node : artefact.kept) LDM_TRY(check_name(scope_, node, kept));
    bool are_once = true;
    LDM_TRY(find_once(artefact.kept, are_once));
    if (!are_once) return refuse(kept, {"has a node twice; expected each once"});
    double rescaled = artefact.rescaled.value_or(2.0);
    if (rescaled > 1.0 && rescaled <= static_cast<double>(largest)) return Status();
    return refuse({where, "rescaled"},
                  {"is ", exactly(rescaled), "; expected more than 1 and at most ", largest});
}

// What the formats that this runtime knows expect of their files.
Status ArtefactRules::check_format(const Artefact& artefact, const json::Where& where) {
    View<std::string_view> files = artefact.files;
    if ((artefact.format == "tensorrt") != artefact.requires_.has_value()) {
        return refuse({where, "requires"},
                      {"does not fit the format; expected requirements of TensorRT plans alone"});
    }
    if (artefact.format == "onnx") return check_graph(artefact, where);
    if (artefact.format == "openvino") {
        if (files.size == 2 && ends_in(files[0], ".xml") && ends_in(files[1], ".bin")) return Status();
        return refuse_files(artefact, where, {"a graph in .xml, then its weights in .bin"});
    }
    if (artefact.format != "tensorrt" || (files.size == 1 && is_in_engines(files[0], artefact.name))) return Status();
    return refuse_files(artefact, where, {"one plan in engines/", artefact.name});
}

// A graph and what its external data may be in: files of its own, then perhaps the component's weights.
Status ArtefactRules::check_graph(const Artefact& artefact, const json::Where& where) {
    std::string_view folder = folder_of_file(component_.weights);
    View<std::string_view> data{artefact.files.data + 1, artefact.files.size - 1};
    bool has_weights = !data.empty() && data[data.size - 1] == component_.weights;
    bool is_in_folder = folder_of_file(artefact.file()) == folder;
    if (artefact.name == canonical_name) {
        if (is_in_folder && has_weights && data.size == 1) return Status();
        return refuse_files(artefact, where, {"a graph in ", quoted(folder), ", then ", quoted(component_.weights)});
    }
    View<std::string_view> own{data.data, has_weights ? data.size - 1 : data.size};
    bool are_once = true;
    LDM_TRY(find_once(data, are_once));
    if (is_in_folder && !data.empty() && are_once && are_own(own, folder)) return Status();
    return refuse_files(artefact, where,
                        {"a graph in ", quoted(folder), ", then ", quoted(component_.weights),
                         ", or .safetensors files of its own in that folder before it or in its place"});
}

// Whether files are data of one graph, and not the component's weights.
bool ArtefactRules::are_own(View<std::string_view> files, std::string_view folder) {
    return std::all_of(files.begin(), files.end(), [&](std::string_view file) {
        return file != component_.weights && folder_of_file(file) == folder && ends_in(file, ".safetensors");
    });
}

Status ArtefactRules::find_once(View<std::string_view> names, bool& out) {
    Array<std::string_view> sorted(scope_.memory);
    LDM_NEED(scope_, sorted.append(names));
    std::sort(sorted.begin(), sorted.end());
    out = std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
    return Status();
}

Status ArtefactRules::refuse_files(const Artefact& artefact, const json::Where& where,
                                   std::initializer_list<Piece> expected) {
    Status status = refuse({where, "files"}, {"is "});
    add_names(scope_.failure, artefact.files);
    scope_.failure.add({"; expected "});
    scope_.failure.add(expected);
    return status;
}

Status ArtefactRules::check_plan(const PlanRequirements& plan, const json::Where& where) {
    LDM_TRY(check_capabilities(plan, {where, "compute_capabilities"}));
    if (!is_version(plan.version)) {
        return refuse_plan({where, "version"}, {"is ", quoted(plan.version), "; expected such as '10.13.3.9'"});
    }
    auto count = [&](PlanOption option) { return std::count(plan.options.begin(), plan.options.end(), option); };
    if (count(PlanOption::refit) > 1 || count(PlanOption::weight_stripped) > 1) {
        return refuse_plan({where, "options"}, {"has an option twice; expected each once"});
    }
    LDM_TRY(check_bytes(plan.activation_bytes, {where, "activation_bytes"}));
    LDM_TRY(check_bytes(plan.weight_bytes, {where, "weight_bytes"}));
    LDM_TRY(check_digest(scope_, plan.graph, {where, "graph"}));
    LDM_TRY(check_digest(scope_, plan.weights, {where, "weights"}));
    json::Where profiles(where, "profiles");
    if (plan.profiles.empty()) return refuse_plan(profiles, {"is empty"});
    for (const json::Map<Range>& profile : plan.profiles) LDM_TRY(check_profile(profile, profiles));
    return Status();
}

Status ArtefactRules::check_capabilities(const PlanRequirements& plan, const json::Where& where) {
    if (plan.compute_capabilities.empty()) return refuse_plan(where, {"is empty"});
    Array<std::string_view> sorted(scope_.memory);
    for (std::string_view capability : plan.compute_capabilities) {
        if (!is_capability(capability)) {
            return refuse_plan(where, {"has ", quoted(capability), "; expected such as '8.9'"});
        }
        LDM_NEED(scope_, sorted.push(capability));
    }
    std::sort(sorted.begin(), sorted.end());
    const std::string_view* twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice == sorted.end()) return Status();
    return refuse_plan(where, {"has ", quoted(*twice), " twice; expected each once"});
}

Status ArtefactRules::check_bytes(const std::optional<std::int64_t>& size, const json::Where& where) {
    return size.has_value() ? check_between(scope_, *size, 0, max_bytes, where) : Status();
}

// A range for every axis of the component's inputs, within what the contract allows.
Status ArtefactRules::check_profile(const json::Map<Range>& profile, const json::Where& where) {
    const Contract& contract = manifest_.contract;
    for (const TensorSpec& input : contract.components.find(name_)->inputs) {
        for (const Dim& dim : input.dims) {
            if (dim.is_named && profile.find(dim.axis) == nullptr) {
                return refuse_plan(where, {"lacks the axis ", quoted(dim.axis), " of the component's inputs"});
            }
        }
    }
    for (const auto& [axis, sizes] : profile) {
        if (contract.axes.find(axis) == nullptr) {
            return refuse_plan(where, {"has the axis ", quoted(axis), ", which the contract does not have"});
        }
    }
    for (const auto& [axis, sizes] : profile) {
        json::Where here(where, json::Key{axis});
        auto [low, high] = contract.range_of(axis);
        LDM_TRY(check_between(scope_, sizes.min, low, high, {here, "min"}));
        LDM_TRY(check_between(scope_, sizes.opt, sizes.min, high, {here, "opt"}));
        LDM_TRY(check_between(scope_, sizes.max, sizes.opt, high, {here, "max"}));
    }
    return Status();
}

Status ArtefactRules::check_keys() {
    json::Where keys(where_, "keys");
    Array<bool> seen(scope_.memory);
    for (const auto& [key, entry] : component_.keys) {
        json::Where here(keys, json::Key{key});
        if (entry.transpose.has_value()) {
            seen.shrink(0);
            LDM_NEED(scope_, seen.resize(entry.transpose->size));
            for (std::int64_t axis : *entry.transpose) {
                bool fits = axis >= 0 && static_cast<std::uint64_t>(axis) < seen.size();
                if (!fits || seen[static_cast<std::size_t>(axis)]) {
                    return json::fail(scope_, {here, "transpose"}, codes::manifest_keys, {"is not a permutation"});
                }
                seen[static_cast<std::size_t>(axis)] = true;
            }
        }
        LDM_TRY(check_name(scope_, entry.initialiser, {here, "initialiser"}));
        if (find_dtype(entry.dtype) == nullptr) {
            return json::fail(scope_, {here, "dtype"}, codes::manifest_keys,
                              {"is ", quoted(entry.dtype), "; expected one of ", dtype_names});
        }
    }
    return Status();
}

}  // namespace

Status check_component(Scope& scope, std::string_view name, const Component& component, const Manifest& manifest,
                       const json::Where& where) {
    ArtefactRules rules(scope, name, component, manifest, where);
    LDM_TRY(rules.check_names());
    LDM_TRY(check_listed(scope, component.weights, manifest, {where, "weights"}));
    json::Where artefacts(where, "artefacts");
    for (const Artefact& artefact : component.artefacts) {
        json::Where here(artefacts, json::Key{artefact.name});
        LDM_TRY(rules.check_artefact(artefact, here));
        LDM_TRY(rules.check_format(artefact, here));
        if (artefact.interface_.has_value()) {
            LDM_TRY(check_interface(scope, *artefact.interface_, manifest.contract, {here, "interface"}));
        }
        if (artefact.requires_.has_value()) LDM_TRY(rules.check_plan(*artefact.requires_, {here, "requires"}));
    }
    return rules.check_keys();
}

}  // namespace ldm
