// ldm: draws with a package from the command line, describes it, prints sampling plans, and proves it.
#include <cstdio>

#include "src/tool/terminal.h"
#include "src/tool/utf8.h"
#include "src/tool/verbs.h"

using namespace ldm::tool;

namespace {

const Verb* const verbs[] = {&run_verb, &inspect_verb, &plan_verb, &verify_verb};

int print_usage() {
    std::printf("usage: ldm VERB PACKAGE [OPTIONS]\n\n");
    for (const Verb* each : verbs) {
        std::printf("  %-10.*s%.*s\n", static_cast<int>(each->name.size()), each->name.data(),
                    static_cast<int>(each->help.size()), each->help.data());
    }
    std::printf("\nAs in:\n\n  %.*s\n\n`ldm VERB --help` lists the options of a verb. Version %s.\n",
                static_cast<int>(run_verb.example.size()), run_verb.example.data(), ldm_version());
    return succeeded;
}

int refuse_verb(std::string_view name) {
    if (name.empty()) return complain("no verb was given; see `ldm --help`", misused);
    std::vector<std::string_view> names;
    for (const Verb* each : verbs) names.push_back(each->name);
    std::string_view meant = nearest(name, names);
    std::string asks = meant.empty() ? "" : " (did you mean " + std::string(meant) + "?)";
    return complain("there is no verb " + std::string(name) + asks + "; see `ldm --help`", misused);
}

int answer(int count, char** given) {
    std::string_view name = count < 2 ? "" : given[1];
    if (name == "--help" || name == "-h") return print_usage();
    if (name == "--version") {
        std::printf("%s\n", ldm_version());
        return succeeded;
    }
    for (const Verb* each : verbs) {
        if (each->name != name) continue;
        Arguments arguments;
        if (!arguments.read(*each, count - 2, given + 2)) return complain(arguments.error(), misused);
        if (arguments.wants_help()) {
            print_help(*each);
            return succeeded;
        }
        if (arguments.place().empty()) {
            return complain("no package was given; name its folder, as in: " + std::string(each->example) +
                            " (runtime/ldm_runtime/builtin of the sources is one)", misused);
        }
        return each->run(arguments);
    }
    return refuse_verb(name);
}

}  // namespace

int main(int count, char** given) {
    given = in_utf8(count, given);
    end_on_request();
    return flush(answer(count, given));
}
