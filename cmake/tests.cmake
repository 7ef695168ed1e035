# tests/unit/<folder>/*.c   one Criterion program per folder: unit_<folder>
# tests/stress/*.c          one plain program each: stress_<name>; exit code 77 means skipped
# tests/fuzz/*.c            one libFuzzer program each in the fuzz preset: fuzz_<name>; everywhere else a program that
#                           replays the kept inputs: replay_<name>
# tests/model/run           checks the models beside it with spin, where that is installed
# tests/support/*.c         helpers, linked with all of them

enable_testing()
set(TESTS ${PROJECT_SOURCE_DIR}/tests)

file(GLOB_RECURSE support_sources CONFIGURE_DEPENDS ${TESTS}/support/*.c)
add_library(test_support INTERFACE)
target_include_directories(test_support INTERFACE ${TESTS}/support ${TESTS})
if(support_sources)
  add_library(test_support_code STATIC ${support_sources})
  target_include_directories(test_support_code PUBLIC ${TESTS}/support)
  target_link_libraries(test_support_code PUBLIC sluice_all)
  target_link_libraries(test_support INTERFACE test_support_code)
endif()
target_link_libraries(test_support INTERFACE sluice_all)

# A test gets the tree's root as working directory, so that it finds its files by their path in the checkout.
function(sluice_test name label)
  add_test(NAME ${name} COMMAND ${ARGN} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 300 SKIP_RETURN_CODE 77
    ENVIRONMENT "SLUICE_BUILD=${PROJECT_BINARY_DIR}")
endfunction()

# ---- unit

pkg_check_modules(CRITERION QUIET IMPORTED_TARGET criterion)
if(NOT TARGET PkgConfig::CRITERION)
  message(STATUS "without unit tests: Criterion is not installed")
elseif(SLUICE_SANITIZE MATCHES "thread")
  message(STATUS "without unit tests: Criterion aborts under ThreadSanitizer")
elseif(NOT SLUICE_FUZZ)
  file(GLOB entries CONFIGURE_DEPENDS LIST_DIRECTORIES true ${TESTS}/unit/*)
  foreach(dir IN LISTS entries)
    if(NOT IS_DIRECTORY ${dir})
      continue()
    endif()
    cmake_path(GET dir FILENAME folder)
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${dir}/*.c)
    if(NOT sources)
      continue()
    endif()
    add_executable(unit_${folder} ${sources})
    target_link_libraries(unit_${folder} PRIVATE test_support PkgConfig::CRITERION)
    # Criterion's assertion macros shadow and convert, and its tests are functions without a prototype.
    target_compile_options(unit_${folder} PRIVATE -Wno-shadow -Wno-conversion -Wno-missing-prototypes)
    sluice_test(unit_${folder} unit $<TARGET_FILE:unit_${folder}>)
  endforeach()
endif()

# ---- stress

if(NOT SLUICE_FUZZ)
  file(GLOB sources CONFIGURE_DEPENDS ${TESTS}/stress/*.c)
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM name)
    add_executable(stress_${name} ${source})
    target_link_libraries(stress_${name} PRIVATE test_support)
    sluice_test(stress_${name} stress $<TARGET_FILE:stress_${name}>)
  endforeach()
endif()

# ---- models: of the algorithm, so that one preset is enough

if(NOT SLUICE_SANITIZE)
  sluice_test(models stress ${TESTS}/model/run)
endif()

# ---- fuzz

file(GLOB sources CONFIGURE_DEPENDS ${TESTS}/fuzz/*.c)
foreach(source IN LISTS sources)
  cmake_path(GET source STEM name)
  if(SLUICE_FUZZ)
    add_executable(fuzz_${name} ${source})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz_${name} PRIVATE test_support)
    target_compile_options(fuzz_${name} PRIVATE -Wno-missing-prototypes)
  else()
    add_executable(replay_${name} ${source} ${PROJECT_SOURCE_DIR}/cmake/fuzz_replay.c)
    target_link_libraries(replay_${name} PRIVATE test_support)
    target_compile_options(replay_${name} PRIVATE -Wno-missing-prototypes)
    sluice_test(replay_${name} fuzz $<TARGET_FILE:replay_${name}>
      tests/fuzz/corpus/${name} tests/fuzz/crash/${name})
  endif()
endforeach()
