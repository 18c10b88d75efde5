#include <ldm_runtime.h>

const char* host_version(void);

const char* host_version(void) { return ldm_version(); }
