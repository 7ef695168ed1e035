# bench/*.c      one program each, in <build>/bench/; measured only where optimised, so built only there
# bench/lib/*.c  what they share
# bench/sched    the scheduler in virtual time: one program, sched

# The simulation of the scheduler is a library of its own, because unit_bench tests it in every build; so are the parts of
# the load that are pure.
file(GLOB sched_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/sched/*.c)
list(REMOVE_ITEM sched_sources ${PROJECT_SOURCE_DIR}/bench/sched/main.c)
add_library(bench_sched_lib STATIC EXCLUDE_FROM_ALL ${sched_sources}
  ${PROJECT_SOURCE_DIR}/bench/lib/die.c ${PROJECT_SOURCE_DIR}/bench/lib/file.c
  ${PROJECT_SOURCE_DIR}/bench/lib/answer.c ${PROJECT_SOURCE_DIR}/bench/lib/http.c ${PROJECT_SOURCE_DIR}/bench/lib/spread.c)
target_include_directories(bench_sched_lib PUBLIC ${PROJECT_SOURCE_DIR}/bench/lib ${PROJECT_SOURCE_DIR}/bench/sched)
target_link_libraries(bench_sched_lib PUBLIC sluice_all)
if(TARGET unit_bench)
  target_link_libraries(unit_bench PRIVATE bench_sched_lib)
endif()

if(NOT CMAKE_BUILD_TYPE STREQUAL "Release" OR SLUICE_SANITIZE OR SLUICE_COVERAGE)
  return()
endif()

file(GLOB shared CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/lib/*.c)
if(shared)
  add_library(bench_lib STATIC ${shared})
  target_include_directories(bench_lib PUBLIC ${PROJECT_SOURCE_DIR}/bench/lib)
  target_link_libraries(bench_lib PUBLIC sluice_all)
endif()

# What a bench measures itself against may be missing: then it is left out.
set(index_lookup_NEEDS liburcu-qsbr liburcu-cds)

set(bench_programs "")
file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/*.c)
foreach(source IN LISTS sources)
  cmake_path(GET source STEM name)
  if(${name}_NEEDS)
    pkg_check_modules(bench_${name} QUIET IMPORTED_TARGET ${${name}_NEEDS})
    if(NOT bench_${name}_FOUND)
      message(STATUS "without bench ${name}: it needs ${${name}_NEEDS}")
      continue()
    endif()
  endif()
  add_executable(bench_${name} ${source})
  set_target_properties(bench_${name} PROPERTIES OUTPUT_NAME ${name}
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
  target_link_libraries(bench_${name} PRIVATE sluice_all)
  if(TARGET bench_lib)
    target_link_libraries(bench_${name} PRIVATE bench_lib)
  endif()
  if(${name}_NEEDS)
    target_link_libraries(bench_${name} PRIVATE PkgConfig::bench_${name})
  endif()
  list(APPEND bench_programs bench_${name})
endforeach()
add_executable(bench_sched ${PROJECT_SOURCE_DIR}/bench/sched/main.c)
set_target_properties(bench_sched PROPERTIES OUTPUT_NAME sched RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
target_link_libraries(bench_sched PRIVATE bench_sched_lib)
list(APPEND bench_programs bench_sched)
add_custom_target(bench_programs DEPENDS ${bench_programs})
