# The Debian package: `./build.sh package`, or cpack in a build folder.

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME sluice)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "The authors of Sluice <sluice@packages.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "API gateway for inference servers and HTTP services")
set(CPACK_PACKAGE_DESCRIPTION
"Sluice stands in front of servers that speak the OpenAI HTTP API and in
front of ordinary HTTP services, with one pinned thread and one io_uring
for each core. It caches and coalesces, admits what a backend can really
take, the important first, and drains without breaking streams.
.
With it come a simulated inference server, for load tests, and a unit for
systemd that is neither enabled nor started by the installation.")

# Files outside of the prefix (/etc) take DESTDIR, and that takes the prefix from here.
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

# A package is for the release it was made on: its libraries are those of there.
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
if(SLUICE_ON_DEBIAN)
  file(STRINGS /etc/os-release version REGEX "^VERSION_ID=")
  if(version MATCHES "([0-9]+)")
    set(CPACK_DEBIAN_PACKAGE_RELEASE 1~deb${CMAKE_MATCH_1})
  endif()
endif()
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION httpd)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
# useradd, where there is no systemd-sysusers
set(CPACK_DEBIAN_PACKAGE_DEPENDS passwd)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS systemd)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "logrotate, prometheus")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
if(SLUICE_CARRY)
  cmake_path(GET YYJSON_FILE PARENT_PATH YYJSON_DIR)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/carried)
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/carried)
  configure_file(${YYJSON_FILE} ${PROJECT_BINARY_DIR}/carried/libyyjson.so.0 COPYONLY)
endif()
set(DEBIAN ${PROJECT_SOURCE_DIR}/deploy/debian)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${DEBIAN}/conffiles ${DEBIAN}/postinst ${DEBIAN}/prerm ${DEBIAN}/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
# What debuggers want goes into a package of its own, sluice-dbgsym.
set(CPACK_DEBIAN_DEBUGINFO_PACKAGE ON)

include(CPack)
