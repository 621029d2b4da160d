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

// Longer than anything here takes, and the bound of every wait: reaching it is a failure.
constexpr std::int64_t patience_ns = 20'000'000'000;

// The numbers of all that this process has open, as far as they are below that.
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

// A socket that does not block.
Fd make_socket(int family, int type);

// An empty regular file.
Fd make_regular_file();

// Two connected unix sockets, neither blocking.
struct Pair {
  Fd ours;
  Fd theirs;
};
Pair make_pair(int type = SOCK_STREAM);

// A pipe, neither end blocking.
struct Pipe {
  Fd read_end;
  Fd write_end;
};
Pipe make_pipe();

// Writes all of it; there must be room.
void put(int fd, std::string_view bytes);
// Reads what is there, `size` bytes at most; nothing at the end of the stream, or when nothing has arrived.
std::string take(int fd, std::size_t size = std::size_t{1} << 20);
// Whether the peer has finished, and nothing is left to read.
bool at_end(int fd);

// Letters in no order that repeats, so that a lost, doubled or misplaced one shows.
std::string pattern(std::size_t size);

// While it lives, the process can open `spare` descriptors more.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(int spare);
  ~DescriptorLimit();
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  rlim_t before_;
};

}  // namespace zloop::test
