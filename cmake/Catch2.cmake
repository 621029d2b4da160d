# Catch2, version 2 or 3, as the target Catch2::Catch2. Tried in this order:
#
#   1. find_package(Catch2): a system's package, or what -DCatch2_ROOT=DIR names; not where another system is compiled for
#   2. version 2's single header, catch2/catch.hpp: where -DCATCH2_INCLUDE_DIR=DIR says or, again, the system has it
#   3. the same header of release 2.13.10, fetched into build/catch2: out of a wheel of the package index, by pip, or
#      else from the release itself. Its SHA-256 is that of the release, whoever packed it. -DZLOOP_FETCH_CATCH2=OFF
#      fetches nothing.
option(ZLOOP_FETCH_CATCH2 "Fetch Catch2's header where it is not installed" ON)

if(NOT CMAKE_CROSSCOMPILING)
  find_package(Catch2 QUIET)
  if(NOT Catch2_FOUND)
    find_path(CATCH2_INCLUDE_DIR catch2/catch.hpp DOC "The directory that holds catch2/catch.hpp")
  endif()
endif()

function(zloop_fetch_catch2 folder)
  set(hash 3725c0f0a75f376a5005dde31ead0feb8f7da7507644c201b814443de8355170)
  set(header ${folder}/catch2/catch.hpp)
  # Lint and the engine's tests are made side by side, and both ask for it.
  file(MAKE_DIRECTORY ${folder})
  file(LOCK ${folder}/lock GUARD FUNCTION TIMEOUT 300)
  set(seen "")
  if(EXISTS ${header})
    file(SHA256 ${header} seen)
  endif()
  if(seen STREQUAL hash)
    return()
  endif()
  message(STATUS "Catch2 is not installed: fetching its header into ${folder}")
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(Python3_FOUND)
    # Headers alone: which Python the wheel asks for does not matter.
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -m pip --disable-pip-version-check install --target ${folder}/wheel --upgrade --no-deps
        --only-binary=:all: --ignore-requires-python "comma-deps-catch2==2.13.10.*"
      RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
    file(GLOB_RECURSE found ${folder}/wheel/*/catch.hpp)
    if(status EQUAL 0 AND found)
      list(GET found 0 found)
      file(SHA256 ${found} seen)
      file(COPY ${found} DESTINATION ${folder}/catch2)
    endif()
    file(REMOVE_RECURSE ${folder}/wheel)
  endif()
  if(NOT seen STREQUAL hash)
    file(DOWNLOAD https://github.com/catchorg/Catch2/releases/download/v2.13.10/catch.hpp ${header} TIMEOUT 60 STATUS status)
    file(SHA256 ${header} seen)
  endif()
  if(NOT seen STREQUAL hash)
    file(REMOVE ${header})
    message(FATAL_ERROR
      "The engine's tests need Catch2, version 2 or 3, which is not installed and cannot be fetched (${status}).\n"
      "Install it (on Debian: apt-get install catch2), or name the directory that holds catch2/catch.hpp: "
      "-DCATCH2_INCLUDE_DIR=DIR. Without the tests: -DZLOOP_ENGINE_TESTS=OFF.\n${output}")
  endif()
endfunction()

if(NOT TARGET Catch2::Catch2)
  set(catch2_include ${CATCH2_INCLUDE_DIR})
  if(NOT catch2_include)
    set(catch2_include ${PROJECT_SOURCE_DIR}/build/catch2)
    if(ZLOOP_FETCH_CATCH2)
      zloop_fetch_catch2(${catch2_include})
    elseif(NOT EXISTS ${catch2_include}/catch2/catch.hpp)
      message(FATAL_ERROR "The engine's tests need Catch2, version 2 or 3; see cmake/Catch2.cmake.")
    endif()
  endif()
  add_library(Catch2::Catch2 INTERFACE IMPORTED)
  set_target_properties(Catch2::Catch2 PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${catch2_include})
endif()
