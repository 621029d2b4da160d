// Descriptors, sockets and bytes for tests.
#pragma once

#include <sys/resource.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace zloop::test {

// The limit of every wait, longer than any test needs: reaching it is a failure.
constexpr std::int64_t patience_ns = 20'000'000'000;

// The numbers of all open descriptors of this process that are below `end`.
std::vector<int> open_descriptors(int end = 4096);

// Owns a descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;

  [[nodiscard]] int get() const noexcept { return fd_; }
  int release() noexcept;
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

// A non-blocking socket.
Fd make_socket(int family, int type);

// An empty regular file.
Fd make_regular_file();

// Two connected Unix sockets, both non-blocking.
struct Pair {
  Fd ours;
  Fd theirs;
};
Pair make_pair(int type = SOCK_STREAM);

// A pipe, both ends non-blocking.
struct Pipe {
  Fd read_end;
  Fd write_end;
};
Pipe make_pipe();

// Writes all bytes; the kernel must have room for them.
void put(int fd, std::string_view bytes);
// Reads the bytes that have arrived, at most `size`; empty at the end of the stream, or if nothing has arrived.
std::string take(int fd, std::size_t size = std::size_t{1} << 20);
// True at the end of the stream: the peer has finished, and nothing is left to read.
bool at_end(int fd);

// Letters without a repeating order, so that lost, duplicated and misplaced bytes are detected.
std::string pattern(std::size_t size);

// During its lifetime, the process can open only `spare` further descriptors.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(int spare);
  ~DescriptorLimit();
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  rlim_t before_;
};

// During its lifetime, the next descriptor that the process opens gets the number 0: the standard input is elsewhere.
class NumberZero {
 public:
  NumberZero();
  ~NumberZero();
  NumberZero(const NumberZero&) = delete;
  NumberZero& operator=(const NumberZero&) = delete;

 private:
  Fd input_;
};

}  // namespace zloop::test
