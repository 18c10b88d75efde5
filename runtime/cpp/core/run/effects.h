// Notices of options that have no effect.
#ifndef LDM_CORE_RUN_EFFECTS_H
#define LDM_CORE_RUN_EFFECTS_H

#include "core/notices.h"
#include "core/run/request.h"
#include "core/status.h"

namespace ldm {

// Add a notice for each option of a run that changes nothing.
Status note_without_effect(Scope& scope, const Request& request, Notices& notices);

}  // namespace ldm

#endif
