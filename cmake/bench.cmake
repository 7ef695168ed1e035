# bench/*.c      one program each, in <build>/bench/; measured only where optimised, so built only there
# bench/lib/*.c  what they share

if(NOT CMAKE_BUILD_TYPE STREQUAL "Release" OR SLUICE_SANITIZE OR SLUICE_COVERAGE)
  return()
endif()

file(GLOB shared CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/lib/*.c)
if(shared)
  add_library(bench_lib STATIC ${shared})
  target_include_directories(bench_lib PUBLIC ${PROJECT_SOURCE_DIR}/bench/lib)
  target_link_libraries(bench_lib PUBLIC sluice_all)
endif()

set(bench_programs "")
file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/*.c)
foreach(source IN LISTS sources)
  cmake_path(GET source STEM name)
  add_executable(bench_${name} ${source})
  set_target_properties(bench_${name} PROPERTIES OUTPUT_NAME ${name}
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
  target_link_libraries(bench_${name} PRIVATE sluice_all)
  if(TARGET bench_lib)
    target_link_libraries(bench_${name} PRIVATE bench_lib)
  endif()
  list(APPEND bench_programs bench_${name})
endforeach()
add_custom_target(bench_programs DEPENDS ${bench_programs})
