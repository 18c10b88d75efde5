// Open packages, named by the arguments after "full", "cached" or "size", and print for each the code that refuses it,
// or its identity.
#include "src/package/open.h"

#include <cstdio>
#include <string_view>

using namespace ldm;

static Status open(Scope& scope, const char* path, package::Check check, package::Package& opened) {
    LDM_TRY(opened.open(scope, path, check));
    return opened.confirm(scope);
}

int main(int count, char** arguments) {
    std::string_view name = count > 1 ? arguments[1] : "";
    package::Check check = name == "full"   ? package::Check::full
                           : name == "size" ? package::Check::size
                                            : package::Check::cached;
    for (int index = 2; index < count; ++index) {
        Allocator memory = system_allocator();
        Failure failure;
        Scope scope{memory, failure};
        package::Package opened(memory);
        Status status = open(scope, arguments[index], check, opened);
        std::string_view said = status.ok() ? opened.identity() : std::string_view(status.code());
        std::printf("%.*s\n", static_cast<int>(said.size()), said.data());
        if (!status.ok()) std::fprintf(stderr, "%s\n", failure.text);
    }
    return 0;
}
