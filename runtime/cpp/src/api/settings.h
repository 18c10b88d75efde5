// The options of an engine as a C program gives them, and as engines take them.
#ifndef LDM_API_SETTINGS_H
#define LDM_API_SETTINGS_H

#include "core/status.h"
#include "include/ldm_runtime.h"
#include "src/engines/components.h"

namespace ldm::api {

// What they point at stays the caller's; the variant is not chosen yet. Code: other.misuse.
Status read_settings(Scope& scope, const ldm_engine_options& options, engines::Settings& out);

}  // namespace ldm::api

#endif
