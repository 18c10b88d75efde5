// What a package says of itself, believed only where its files and its proof bear it out. The twin of
// ldm_export/package/describe.py.
#ifndef LDM_VERIFY_DESCRIBE_H
#define LDM_VERIFY_DESCRIBE_H

#include <string_view>

#include "core/status.h"
#include "src/package/open.h"

namespace ldm::verify {

// Describe an opened package as JSON, or as indented lines. Waits for its hashes. Codes: those of packages.
Status describe(Scope& scope, package::Package& package, bool as_json, Array<char>& out);

}  // namespace ldm::verify

#endif
