# The library ldm_runtime, shared or with BUILD_SHARED_LIBS=OFF static, and the tool ldm.

# LodePNG as it is published, but for what is not needed: files, other chunks, std::vector, malloc.
add_library(ldm_lodepng STATIC third_party/lodepng/lodepng.cpp)
target_compile_definitions(ldm_lodepng PUBLIC LODEPNG_NO_COMPILE_DISK LODEPNG_NO_COMPILE_ANCILLARY_CHUNKS
  LODEPNG_NO_COMPILE_CPP LODEPNG_NO_COMPILE_ALLOCATORS LODEPNG_NO_COMPILE_ERROR_TEXT)
target_compile_options(ldm_lodepng PRIVATE -fno-exceptions -fno-rtti)

# What knows the operating system: files, threads, engines. ONNX Runtime is opened when it is needed, never linked.
# Tests reach inner parts through these objects, of which the library exports nothing but the interface.
file(GLOB_RECURSE LDM_HOST_SOURCES CONFIGURE_DEPENDS src/*.cpp)
list(FILTER LDM_HOST_SOURCES EXCLUDE REGEX "/src/(tool|steps)/")
find_package(Threads REQUIRED)
add_library(ldm_host OBJECT ${LDM_HOST_SOURCES})
target_link_libraries(ldm_host PUBLIC ldm_core ldm_lodepng Threads::Threads ${CMAKE_DL_LIBS})
target_include_directories(ldm_host PUBLIC include)
target_compile_definitions(ldm_host PUBLIC LDM_VERSION="${PROJECT_VERSION}" INTERFACE LDM_STATIC)

file(STRINGS include/ldm_runtime.h LDM_ABI_VERSION REGEX "^#define LDM_ABI_VERSION ")
string(REGEX REPLACE ".* " "" LDM_ABI_VERSION "${LDM_ABI_VERSION}")
if(LDM_LINKAGE STREQUAL STATIC)
  target_compile_definitions(ldm_host PRIVATE LDM_STATIC)
  add_library(ldm_runtime STATIC $<TARGET_OBJECTS:ldm_host> $<TARGET_OBJECTS:ldm_core> $<TARGET_OBJECTS:ldm_lodepng>)
  target_link_libraries(ldm_runtime PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  target_compile_definitions(ldm_runtime INTERFACE LDM_STATIC)
else()
  target_compile_definitions(ldm_host PRIVATE LDM_BUILDING)
  add_library(ldm_runtime SHARED $<TARGET_OBJECTS:ldm_host>)
  target_link_libraries(ldm_runtime PRIVATE ldm_core ldm_lodepng Threads::Threads ${CMAKE_DL_LIBS})
endif()
add_library(ldm_runtime::ldm_runtime ALIAS ldm_runtime)
target_include_directories(ldm_runtime INTERFACE
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(ldm_runtime PROPERTIES LINKER_LANGUAGE CXX VERSION ${PROJECT_VERSION}
  SOVERSION ${LDM_ABI_VERSION})
if(WIN32)
  set_target_properties(ldm_runtime PROPERTIES PREFIX "")
endif()
# Hidden visibility does not reach what is linked statically, such as the standard library's operators new and delete.
# Zig's linker has no such option for macOS: those operators are replaced by hidden ones.
if(LDM_LINKAGE STREQUAL STATIC)
  # An archive has no list of exports.
elseif(APPLE AND LDM_ZIG)
  target_sources(ldm_runtime PRIVATE cmake/macos_operators.cpp)
  target_compile_options(ldm_runtime PRIVATE -fvisibility-global-new-delete=force-hidden)
elseif(APPLE)
  target_link_options(ldm_runtime PRIVATE -Wl,-exported_symbol,_ldm_*)
elseif(UNIX)
  target_link_options(ldm_runtime PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/cmake/exports.map)
  set_property(TARGET ldm_runtime APPEND PROPERTY LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cmake/exports.map)
endif()

if(LDM_BUILD_TOOL)
  file(GLOB LDM_TOOL_SOURCES CONFIGURE_DEPENDS src/tool/*.cpp)
  add_executable(ldm ${LDM_TOOL_SOURCES})
  if(NOT LDM_LINKAGE STREQUAL STATIC)  # an archive shows it to the tool
    target_sources(ldm PRIVATE core/text/utf8.cpp)
  endif()
  target_link_libraries(ldm PRIVATE ldm_options ldm_runtime)
  set_target_properties(ldm PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
endif()
