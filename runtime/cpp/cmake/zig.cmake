# Builds for another system with zig, which brings a C++ compiler and the headers of all;
# scripts/cross_build.py uses it.
#   LDM_ZIG: the program zig. LDM_TARGET: such as aarch64-linux-gnu.
# Zig builds the standard library once for each set of flags, which takes minutes: CMake's trials have those of a
# release build, -s among them (without symbols), or do not link.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES LDM_ZIG LDM_TARGET)
if(LDM_TARGET MATCHES "^wasm32")
  set(CMAKE_SYSTEM_NAME Generic)
elseif(LDM_TARGET MATCHES "windows")
  set(CMAKE_SYSTEM_NAME Windows)
elseif(LDM_TARGET MATCHES "macos")
  set(CMAKE_SYSTEM_NAME Darwin)
else()
  set(CMAKE_SYSTEM_NAME Linux)
endif()
string(REGEX MATCH "^[^-]*" CMAKE_SYSTEM_PROCESSOR ${LDM_TARGET})

set(CMAKE_C_COMPILER ${LDM_ZIG} cc -target ${LDM_TARGET} -O3 -s)
set(CMAKE_CXX_COMPILER ${LDM_ZIG} c++ -target ${LDM_TARGET} -O3 -s)
set(CMAKE_AR ${LDM_ZIG})
set(CMAKE_RANLIB ${LDM_ZIG})
set(CMAKE_USER_MAKE_RULES_OVERRIDE ${CMAKE_CURRENT_LIST_DIR}/zig_archive.cmake)
if(LDM_TARGET MATCHES "^wasm32")
  string(APPEND CMAKE_EXE_LINKER_FLAGS_INIT " -Wl,-z,stack-size=1048576")  # the linker's own is 64 kB
endif()
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE NEVER)
