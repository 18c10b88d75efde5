# How what is built is installed and found: the target LDM_INSTALLED, and the header.
install(TARGETS ${LDM_INSTALLED} EXPORT ldm_runtime)
install(FILES include/ldm_runtime.h include/ldm_runtime.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(LDM_CMAKE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/ldm_runtime)
configure_package_config_file(cmake/ldm_runtime-config.cmake.in ldm_runtime-config.cmake
  INSTALL_DESTINATION ${LDM_CMAKE_FOLDER})
write_basic_package_version_file(ldm_runtime-config-version.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT ldm_runtime NAMESPACE ldm_runtime:: DESTINATION ${LDM_CMAKE_FOLDER} FILE ldm_runtime-targets.cmake)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ldm_runtime-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/ldm_runtime-config-version.cmake DESTINATION ${LDM_CMAKE_FOLDER})
# The prefix is told from the file itself, so that what is installed may be moved, whatever the folders are called.
file(RELATIVE_PATH LDM_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
file(RELATIVE_PATH LDM_PC_INCLUDE ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_FULL_INCLUDEDIR})
if(LDM_LINKAGE STREQUAL STATIC)
  set(LDM_PC_CFLAGS " -DLDM_STATIC")
  # The library of C++, which a C compiler does not link by itself.
  foreach(library ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
    if(library MATCHES "^(stdc\\+\\+|c\\+\\+|m)$")
      string(APPEND LDM_PC_LIBS " -l${library}")
    endif()
  endforeach()
  if(LDM_INSTALLED STREQUAL ldm_runtime AND UNIX)
    string(APPEND LDM_PC_LIBS " -pthread")
    foreach(library ${CMAKE_DL_LIBS})
      string(APPEND LDM_PC_LIBS " -l${library}")
    endforeach()
  endif()
endif()
configure_file(cmake/ldm_runtime.pc.in ldm_runtime.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ldm_runtime.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
