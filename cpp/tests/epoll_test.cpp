// What only the epoll backend has: the way back to epoll_wait(2) where epoll_pwait2(2) is missing or forbidden.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <thread>

#include "support/catch.hpp"
#include "zloop/clock.hpp"
#include "zloop/poller.hpp"

namespace {

// From here on this thread's epoll_pwait2(2) fails with `error`. Nothing undoes it, so the thread should end soon.
bool forbid_precise_wait(unsigned error) noexcept {
  std::array<sock_filter, 4> program{
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{.len = program.size(), .filter = program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

struct Waited {
  bool forbidden = false;
  int result = 0;
  std::int64_t elapsed_ns = 0;
};

Waited wait_without_precision(zloop::Poller& poller, unsigned error, std::int64_t timeout_ns) {
  Waited waited;
  std::jthread([&] {
    waited.forbidden = forbid_precise_wait(error);
    zloop::PollEvent event{};
    const std::int64_t before = zloop::monotonic_ns();
    waited.result = poller.wait(&event, 1, timeout_ns);
    waited.elapsed_ns = zloop::monotonic_ns() - before;
  }).join();
  return waited;
}

TEST_CASE("without epoll_pwait2 a wait is rounded up to milliseconds, never down", "[native]") {
  const unsigned error = GENERATE(unsigned{ENOSYS}, unsigned{EPERM});
  const std::unique_ptr<zloop::Poller> poller = zloop::make_poller();
  REQUIRE(poller->open() == 0);
  for (const std::int64_t timeout_ns : {1, 1'000'000, 1'000'001, 2'900'000}) {
    const Waited waited = wait_without_precision(*poller, error, timeout_ns);
    REQUIRE(waited.forbidden);
    CHECK(waited.result == 0);
    CHECK(waited.elapsed_ns >= timeout_ns);
  }
}

TEST_CASE("another failure of epoll_pwait2 is reported", "[native]") {
  const std::unique_ptr<zloop::Poller> poller = zloop::make_poller();
  REQUIRE(poller->open() == 0);
  const Waited waited = wait_without_precision(*poller, EINVAL, 1'000'000);
  REQUIRE(waited.forbidden);
  CHECK(waited.result == -EINVAL);
}

TEST_CASE("a closed poller cannot wait") {
  const std::unique_ptr<zloop::Poller> poller = zloop::make_poller();
  zloop::PollEvent event{};
  CHECK(poller->wait(&event, 1, 0) == -EBADF);
  CHECK(poller->wait(&event, 1, 1'000'000) == -EBADF);
}

}  // namespace
