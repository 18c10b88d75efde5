# The archive ldm_steps: the interface without files, threads and engines, for a host that runs the graphs itself.
file(GLOB LDM_STEPS_SOURCES CONFIGURE_DEPENDS src/steps/*.cpp)
list(APPEND LDM_STEPS_SOURCES src/version.cpp)
foreach(name context image options package plan run steps)
  list(APPEND LDM_STEPS_SOURCES src/api/${name}.cpp)
endforeach()
add_library(ldm_steps STATIC ${LDM_STEPS_SOURCES} $<TARGET_OBJECTS:ldm_core>)
add_library(ldm_runtime::ldm_steps ALIAS ldm_steps)
target_compile_features(ldm_steps PRIVATE cxx_std_17)
target_compile_options(ldm_steps PRIVATE $<TARGET_PROPERTY:ldm_options,INTERFACE_COMPILE_OPTIONS>)
target_include_directories(ldm_steps PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} INTERFACE
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_include_directories(ldm_steps PRIVATE include)
target_compile_definitions(ldm_steps PRIVATE LDM_VERSION="${PROJECT_VERSION}" PUBLIC LDM_STATIC)
