// The verb `plan`: print the sampling plan that a sampler compiles to.
#include <cstdio>

#include "src/tool/terminal.h"
#include "src/tool/verbs.h"

namespace ldm::tool {

namespace {

constexpr Option options_of_plan[] = {
    {"--sampler", "TEXT", "with options after a colon (the package's)"},
    {"--steps", "INTEGER", "sampling steps (the package's)"},
    {"--start", "INTEGER", "steps left out at the beginning (0)"},
    {"--json", "", "as JSON, which is always printed"},
};

int plan(Arguments& arguments) {
    Context context;
    PackageOptions options;
    if (context.get() == nullptr) return complain(context);
    options->check = LDM_CHECK_SIZE;
    std::int32_t steps = 0, start = 0;
    if (!arguments.integer("--steps", 1, steps) || !arguments.integer("--start", 0, start)) {
        return complain(arguments.error(), misused);
    }
    auto package = Package::open(context, arguments.place().c_str(), options);
    const char* json = nullptr;
    if (!package ||
        ldm_plan_json(context.get(), package->get(), arguments.text("--sampler"), steps, start, &json) != LDM_OK) {
        return complain(context);
    }
    std::printf("%s\n", json);
    return succeeded;
}

}  // namespace

const Verb plan_verb = verb("plan", "Print the sampling plan of a package as JSON.",
                            "ldm plan ./package --sampler dpmpp_2m --steps 10", options_of_plan, plan);

}  // namespace ldm::tool
