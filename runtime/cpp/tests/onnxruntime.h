// ONNX Runtime for tests: the shared library that the environment variable LDM_ONNXRUNTIME names (CMake sets it).
#ifndef LDM_TESTS_ONNXRUNTIME_H
#define LDM_TESTS_ONNXRUNTIME_H

#include <cstdlib>

#include "src/engines/onnxruntime/library.h"
#include "tests/check.h"

// Open it; the program ends where it cannot be opened.
inline void open_onnxruntime(ldm::Scope& scope, ldm::ort::Library& library) {
    if (library.open(scope, "").ok()) return;
    std::fprintf(stderr, "%s\nTests of the engine need it: cmake -DLDM_ONNXRUNTIME=… or LDM_ONNXRUNTIME=…\n",
                 scope.failure.text);
    std::exit(2);
}

#endif
