// The verb `inspect`: describe a package.
#include <cstdio>

#include "src/tool/terminal.h"
#include "src/tool/verbs.h"

namespace ldm::tool {

namespace {

constexpr Option options_of_inspect[] = {check_option, {"--json", "", "print machine-readable JSON"}};

int inspect(Arguments& arguments) {
    Context context;
    PackageOptions options;
    if (context.get() == nullptr) return complain(context);
    if (!read_check(arguments, options)) return complain(arguments.error(), misused);
    auto package = Package::open(context, arguments.place().c_str(), options);
    const char* text = nullptr;
    if (!package || ldm_package_describe(context.get(), package->get(), arguments.has("--json"), &text) != LDM_OK) {
        return complain(context);
    }
    std::printf("%s\n", text);
    return succeeded;
}

}  // namespace

const Verb inspect_verb =
    verb("inspect", "Describe a package: sizes, defaults, components, proof. Its files are checked.",
         "ldm inspect ./package --json", options_of_inspect, inspect);

}  // namespace ldm::tool
