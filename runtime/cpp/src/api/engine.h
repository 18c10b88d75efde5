// What an engine's handle is.
#ifndef LDM_API_ENGINE_H
#define LDM_API_ENGINE_H

#include "src/api/handles.h"
#include "src/engines/components.h"
#include "src/package/open.h"

struct ldm_engine {
    ldm::Allocator memory;
    ldm_package* package;
    ldm::engines::Components components;

    ldm_engine(ldm::Allocator given, ldm_package* its)
        : memory(given), package(its), components(memory, *its->opened) {}
};

#endif
