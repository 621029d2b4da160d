#include "support/sockets.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "support/catch.hpp"
#include "zloop/sys.hpp"

namespace zloop::test {

std::vector<int> open_descriptors(int end) {
  std::vector<int> found;
  for (int fd = 0; fd < end; ++fd) {
    if (sys::check_open(fd) == 0) found.push_back(fd);
  }
  return found;
}

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) reset(other.release());
  return *this;
}

int Fd::release() noexcept { return std::exchange(fd_, -1); }

void Fd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

namespace {

// Not every system has flags for this in the calls that make descriptors.
Fd unblocked(int fd) {
  REQUIRE(fd >= 0);
  Fd owned(fd);
  REQUIRE(::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0);
  REQUIRE(::fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
  return owned;
}

}  // namespace

Fd make_socket(int family, int type) { return unblocked(::socket(family, type, 0)); }

Fd make_regular_file() {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  Fd duplicate(::dup(::fileno(file)));
  REQUIRE(std::fclose(file) == 0);
  REQUIRE(duplicate.get() >= 0);
  return duplicate;
}

Pair make_pair(int type) {
  std::array<int, 2> fds{};
  REQUIRE(::socketpair(AF_UNIX, type, 0, fds.data()) == 0);
  return Pair{.ours = unblocked(fds[0]), .theirs = unblocked(fds[1])};
}

Pipe make_pipe() {
  std::array<int, 2> fds{};
  REQUIRE(::pipe(fds.data()) == 0);
  return Pipe{.read_end = unblocked(fds[0]), .write_end = unblocked(fds[1])};
}

void put(int fd, std::string_view bytes) {
  REQUIRE(::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
}

std::string take(int fd, std::size_t size) {
  std::string bytes(size, '\0');
  const ssize_t count = ::read(fd, bytes.data(), bytes.size());
  if (count < 0) REQUIRE(errno == EAGAIN);
  bytes.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return bytes;
}

bool at_end(int fd) {
  char byte = 0;
  return ::read(fd, &byte, 1) == 0;
}

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  std::uint32_t state = 1;
  for (char& byte : bytes) {
    state = (state * 1664525) + 1013904223;
    byte = static_cast<char>('a' + ((state >> 24) % 26));
  }
  return bytes;
}

DescriptorLimit::DescriptorLimit(int spare) {
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  before_ = limit.rlim_cur;
  // New descriptors get the lowest free numbers, so the limit is the number after the last one that may still be used.
  int first_refused = 0;
  for (int free = 0;; ++first_refused) {
    if (::fcntl(first_refused, F_GETFD) < 0 && free++ == spare) break;
  }
  limit.rlim_cur = static_cast<rlim_t>(first_refused);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

DescriptorLimit::~DescriptorLimit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = before_;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

NumberZero::NumberZero() : input_(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)) {
  if (input_.get() >= 0) ::close(STDIN_FILENO);
}

NumberZero::~NumberZero() {
  if (input_.get() >= 0) ::dup2(input_.get(), STDIN_FILENO);
}

}  // namespace zloop::test
