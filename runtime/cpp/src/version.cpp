// The versions of the library and of its interface.
#include "ldm_runtime.h"

int32_t ldm_abi_version(void) { return LDM_ABI_VERSION; }

const char* ldm_version(void) { return LDM_VERSION; }
