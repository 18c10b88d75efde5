// What an engine's handle is.
#ifndef LDM_API_ENGINE_H
#define LDM_API_ENGINE_H

#include <optional>

#include "src/api/handles.h"
#include "src/engines/components.h"
#include "src/package/open.h"

struct ldm_engine {
    ldm::Allocator memory;
    ldm_package* package;
    std::optional<ldm::engines::Components> components;  // of the last attempt to open them, never none

    ldm_engine(ldm::Allocator given, ldm_package* its)
        : memory(given), package(its), components(std::in_place, memory, *its->opened) {}
};

#endif
