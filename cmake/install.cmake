# What is installed, and where: `cmake --install build/release [--prefix DIR]`, DESTDIR respected.
#
# Folders are GNUInstallDirs'. What has paths in it (the unit, the manual pages) is made while it is installed, because
# only then the prefix is known: install_configured.cmake.in.

include(GNUInstallDirs)

# Installing asks only that the programs were built, not all the tests.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)

set(SLUICE_ON_DEBIAN OFF)
set(SLUICE_ON_DEBIAN_12 OFF)
if(EXISTS /etc/os-release)
  file(STRINGS /etc/os-release SLUICE_OS_LINES REGEX "^(ID|VERSION_ID)=")
  if("ID=debian" IN_LIST SLUICE_OS_LINES)
    set(SLUICE_ON_DEBIAN ON)
    if("VERSION_ID=\"12\"" IN_LIST SLUICE_OS_LINES)
      set(SLUICE_ON_DEBIAN_12 ON)
    endif()
  endif()
endif()
# Debian 12 has liburing and yyjson not at all, or too old: the one is linked statically, the other goes along.
option(SLUICE_CARRY "Carry the libraries that this system does not have" ${SLUICE_ON_DEBIAN_12})

set(SLUICE_PRIVATE_LIBDIR lib/sluice)
if(SLUICE_CARRY)
  find_library(LIBURING_STATIC NAMES liburing.a HINTS ${LIBURING_LIBRARY_DIRS} REQUIRED)
  set_property(TARGET PkgConfig::LIBURING PROPERTY INTERFACE_LINK_LIBRARIES ${LIBURING_STATIC})
  find_library(YYJSON_SHARED NAMES libyyjson.so.0 HINTS ${YYJSON_LIBRARY_DIRS} REQUIRED)
  file(REAL_PATH ${YYJSON_SHARED} YYJSON_FILE)
  install(FILES ${YYJSON_FILE} DESTINATION ${SLUICE_PRIVATE_LIBDIR} RENAME libyyjson.so.0)
  file(RELATIVE_PATH SLUICE_UP /${CMAKE_INSTALL_BINDIR} /${SLUICE_PRIVATE_LIBDIR})
  set_target_properties(${SLUICE_PROGRAMS} PROPERTIES INSTALL_RPATH "$ORIGIN/${SLUICE_UP}")
endif()

install(TARGETS ${SLUICE_PROGRAMS} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# ---- tuning: the script finds its data beside itself, through the link

if(EXISTS ${PROJECT_SOURCE_DIR}/tuning/tune.sh)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/tuning/ DESTINATION ${CMAKE_INSTALL_DATADIR}/sluice/tuning
    USE_SOURCE_PERMISSIONS)
  set(SLUICE_HAS_TUNING ON)
endif()

# ---- documentation and completion

install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/ARCHITECTURE.md
  DESTINATION ${CMAKE_INSTALL_DOCDIR})
file(GLOB docs ${PROJECT_SOURCE_DIR}/docs/*.md)
install(FILES ${docs} DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/scheduling DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs OPTIONAL)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples
  FILES_MATCHING PATTERN *.yaml)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/deploy/systemd/examples/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples/systemd)

set(COMPLETION ${PROJECT_SOURCE_DIR}/deploy/completion)
set(SLUICE_BASH_DIR ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
set(SLUICE_FISH_DIR ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
set(SLUICE_ZSH_DIR ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
if(SLUICE_ON_DEBIAN)
  set(SLUICE_ZSH_DIR ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
endif()
install(FILES ${COMPLETION}/sluice.bash DESTINATION ${SLUICE_BASH_DIR} RENAME sluice)
install(FILES ${COMPLETION}/sluice.fish DESTINATION ${SLUICE_FISH_DIR})
install(FILES ${COMPLETION}/_sluice DESTINATION ${SLUICE_ZSH_DIR})

# ---- the licences of what is inside: linked statically, or carried

set(SLUICE_INSIDE libllhttp-dev libmbedtls-dev)
if(SLUICE_CARRY)
  list(APPEND SLUICE_INSIDE liburing-dev libyyjson-dev)
endif()
set(SLUICE_COPYRIGHT ${PROJECT_BINARY_DIR}/copyright)
file(READ ${PROJECT_SOURCE_DIR}/deploy/debian/copyright copyright)
foreach(inside IN LISTS SLUICE_INSIDE)
  if(EXISTS /usr/share/doc/${inside}/copyright)
    file(READ /usr/share/doc/${inside}/copyright licence)
    string(APPEND copyright "\n\n---- ${inside}, of which code is part of these programs\n\n${licence}")
  endif()
endforeach()
file(WRITE ${SLUICE_COPYRIGHT} "${copyright}")

# ---- what has paths in it

find_program(GZIP gzip)
find_program(AWK awk)
configure_file(${PROJECT_SOURCE_DIR}/cmake/install_configured.cmake.in ${PROJECT_BINARY_DIR}/install_configured.cmake
  @ONLY)
install(SCRIPT ${PROJECT_BINARY_DIR}/install_configured.cmake)
