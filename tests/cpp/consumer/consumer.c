#include <ldm_runtime.h>
#include <stdio.h>

int main(void) {
    printf("%s %d\n", ldm_version(), (int)ldm_abi_version());
    return ldm_abi_version() == LDM_ABI_VERSION ? 0 : 1;
}
