// The verb `verify`: compare a package with its reference.
#include <cstdio>

#include "src/tool/terminal.h"
#include "src/tool/verbs.h"

namespace ldm::tool {

namespace {

constexpr Option options_of_verify[] = {
    {"--json", "", "print the report as JSON"}, engine_option, provider_option, provider_options_option, threads_option,
    library_option,
};

int verify(Arguments& arguments) {
    ContextOptions context_options;
    context_options->log = print_stages;
    Context context(context_options);
    EngineChoice choice;
    if (context.get() == nullptr) return complain(context);
    if (!choice.read(arguments)) return complain(arguments.error(), misused);
    auto report = Report::verify(context, arguments.place().c_str(), choice.options());
    if (!report) return complain(context);
    std::printf("%s\n", arguments.has("--json") ? report->json() : report->table());
    for (std::size_t index = 0; const char* failure = report->failure(index); ++index) complain(failure, failed);
    return report->passed() ? succeeded : failed;
}

}  // namespace

const Verb verify_verb =
    verb("verify", "Verify that a package equals its torch reference, which it carries. It is only read.",
         "ldm verify ./package", options_of_verify, verify);

}  // namespace ldm::tool
