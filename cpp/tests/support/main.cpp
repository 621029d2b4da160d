// The main function of the tests. In addition to what Catch2 checks, a run fails if it finds no test, if a test asserts
// nothing, or if a descriptor is left open.
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

#include <sys/resource.h>

#include <iostream>
#include <vector>

#include "support/sockets.hpp"

namespace {

using zloop::test::open_descriptors;

// Some systems allow a process fewer descriptors than the tests have open at the same time.
void allow_descriptors() {
  constexpr rlim_t needed = 2048;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) return;
  limit.rlim_cur = needed;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

void configure(Catch::ConfigData& config) {
  config.filenamesAsTags = true;  // a test in x_test.cpp has the tag [#x_test]
#if __has_include(<catch2/catch_session.hpp>)
  config.warnings = Catch::WarnAbout::NoAssertions;  // a run without tests is already an error
#else
  // NOLINTNEXTLINE(clang-analyzer-optin.core.EnumCastOutOfRange): bits, as Catch2 combines them itself
  config.warnings = static_cast<Catch::WarnAbout::What>(Catch::WarnAbout::NoAssertions | Catch::WarnAbout::NoTests);
#endif
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape,misc-const-correctness): what escapes ends the run; main's own type
int main(int argc, char** argv) {
  allow_descriptors();
  const std::vector<int> before = open_descriptors();
  Catch::Session session;
  configure(session.configData());
  int status = session.applyCommandLine(argc, argv);
  if (status == 0) status = session.run();
  if (open_descriptors() == before) return status;
  std::cerr << "a test left a descriptor open, or closed one that was not its own\n";
  return 1;
}
