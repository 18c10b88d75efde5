#include "src/tool/verbs.h"

namespace ldm::tool {

bool EngineChoice::read(Arguments& arguments) {
    std::vector<const char*> given = arguments.texts("--provider-option");
    names_.reserve(given.size());
    for (const char* each : given) {
        std::string_view text = each;
        std::size_t equals = text.find('=');
        if (equals == std::string_view::npos || equals == 0) {
            return arguments.refuse("--provider-option", text, "NAME=VALUE, such as device_id=1");
        }
        names_.emplace_back(text.substr(0, equals));
        keys_.push_back(names_.back().c_str());
        values_.push_back(each + equals + 1);
    }
    if (!arguments.path("--library")) return false;
    for (std::string_view name : {"--engine", "--provider"}) {
        if (arguments.has(name) && arguments.text(name)[0] == '\0') return arguments.refuse(name, "", "a name");
    }
    options_->library = arguments.text("--library");
    options_->engine = arguments.text("--engine");
    options_->provider = arguments.text("--provider");
    options_->provider_keys = keys_.data();
    options_->provider_values = values_.data();
    options_->provider_option_count = keys_.size();
    options_->budget = arguments.text("--budget");
    options_->variant = arguments.text("--variant");
    bool has_budget = arguments.has("--budget") && std::string_view(arguments.text("--budget")) != "exact";
    if (arguments.has("--exact") && (has_budget || arguments.has("--variant"))) {
        std::string name = arguments.has("--variant") ? "--variant" : "--budget";
        return arguments.fail("--exact and " + name + " " + arguments.text(name) +
                              " exclude each other; leave out one of them");
    }
    options_->maps_weights = arguments.has("--map-weights");
    is_told_ = arguments.has("--map-weights") || arguments.has("--no-map-weights");
    if (arguments.has("--map-weights") && arguments.has("--no-map-weights")) {
        return arguments.fail("--map-weights and --no-map-weights were given; give one of them");
    }
    return arguments.integer("--threads", 1, options_->threads);
}

bool read_check(Arguments& arguments, PackageOptions& options) {
    return arguments.choice("--check", {"cached", "full", "size"}, options->check);  // in the order of ldm_check
}

}  // namespace ldm::tool
