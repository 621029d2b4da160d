// What a debug build checks by itself: CMake option ZLOOP_INVARIANTS, on in the presets dev and asan. A release has
// none of it.
//
// At the beginning of each Reactor::wait() the engine compares its tables with one another and with the kernel's. A
// difference is a fault of the engine, so it ends the process: what would follow is an event for another connection, or
// none at all. The exception is a descriptor that other code has closed: that is the program's fault, and the engine
// deals with it.
//
// It also counts the objects that exist. The counts are the process's, of all loops.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace zloop {

class Reactor;

// The classes whose objects are counted.
enum class [[gnu::visibility("default")]] LiveClass : std::uint8_t {
  reactor,
  stream,
  listener,
  datagram_socket,
  tls_session,
};

// A member of each of them, which counts the objects that exist. In a release it does nothing and takes no memory.
template <LiveClass Class>
class [[gnu::visibility("default")]] LiveCount {
#ifdef ZLOOP_INVARIANTS
 public:
  LiveCount() noexcept { count.fetch_add(1, std::memory_order_relaxed); }
  ~LiveCount() { count.fetch_sub(1, std::memory_order_relaxed); }
  LiveCount(const LiveCount&) = delete;
  LiveCount& operator=(const LiveCount&) = delete;

  // Any thread.
  [[nodiscard]] static long now() noexcept { return count.load(std::memory_order_relaxed); }

 private:
  // One for the process, although each extension module is linked with an engine of its own: GCC, without link-time
  // optimization, marks the static of a visible template as unique (STB_GNU_UNIQUE), and the dynamic linker merges
  // those.
  inline static std::atomic<long> count = 0;
#endif
};

struct NamedCount {
  const char* name;  // of the class
  long count;        // objects of it that exist
};

// The count of each class, by an index from 0 on; behind the last one, and in a release, the name is nullptr.
[[nodiscard]] NamedCount live_count(std::size_t index) noexcept;

#ifdef ZLOOP_INVARIANTS
// The inode of the file that a descriptor refers to; 0 if it is closed.
[[nodiscard]] std::uint64_t inode_of(int fd) noexcept;

// Says which invariant does not hold, with the number of the descriptor; empty if all do.
[[nodiscard]] std::string violated_invariant(const Reactor& reactor);

// Ends the process if an invariant does not hold, with one line on standard error. Compares with the kernel now and
// then only, if there are many descriptors.
void check_invariants(Reactor& reactor) noexcept;
#else
inline void check_invariants(Reactor& /*reactor*/) noexcept {}
#endif

}  // namespace zloop
