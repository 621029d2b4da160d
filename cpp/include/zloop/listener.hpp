// A listening socket: accepts connections and passes each one to its owner.
//
// Borrows its descriptor and its reactor. The descriptor of a new connection belongs to the owner from the call of
// on_accept on. Loop thread only.
//
// Several listeners of a process, each with a reactor of its own, may accept from one socket or from duplicates of it.
// Told so, each takes one connection for each readiness event, and lines up behind the others: a connection wakes one
// of the loops that wait, and each loop has its turn.
#pragma once

#include <sys/socket.h>

#include <atomic>

#include "zloop/invariants.hpp"
#include "zloop/reactor.hpp"
#include "zloop/sys.hpp"
#include "zloop/watcher.hpp"

namespace zloop {

// The owner may close the listener during a call, but keeps itself and the listener alive until Reactor::dispatch()
// returns: one event can bring several connections.
struct ListenerOps {  // as WatcherOps
  // The new descriptor is non-blocking and close-on-exec.
  void (*on_accept)(void* owner, int fd, const sockaddr_storage& peer,
                    socklen_t peer_size) = [](void*, int fd, const sockaddr_storage&, socklen_t) { sys::close(fd); };
  // `error` is an errno value. If the process or the system is out of a resource (see Listener::out_of_resources), the
  // listener has paused itself, because the kernel would report readiness again at once; start() resumes.
  void (*on_error)(void* owner, int error) = [](void*, int) {};
};

class Listener final : private Watcher {
 public:
  Listener(const ListenerOps& ops, void* owner) noexcept : ops_(ops), owner_(owner) {}
  ~Listener() { close(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Accepts up to `burst` connections for each readiness event, so that one busy port cannot starve the loop. While the
  // socket is shared, it is one.
  // 0 or -errno, as Reactor::attach.
  [[nodiscard]] int open(Reactor& reactor, int fd, int burst) noexcept;
  // Detaches from the reactor, as Reactor::close() does. The descriptor stays open. Harmless when closed.
  void close() noexcept { detach(); }
  // Also false if other code closed the descriptor and the reactor detached this watcher from its number.
  [[nodiscard]] bool is_open() const noexcept { return attached(); }
  // As Watcher::lost(), also after close(): if true, the owner must neither use nor close the descriptor.
  using Watcher::lost;

  // 0 or -errno.
  [[nodiscard]] int start() noexcept;
  void pause() noexcept { drop_interest(interest_read); }

  // Any thread: whether another listener of this process accepts from the same socket. line_up() has to follow.
  void set_shared(bool shared) noexcept { shared_.store(shared, std::memory_order_relaxed); }

  // Loop thread. Takes its place behind the other listeners, or a common one when it is alone. The next wait() reports
  // connections that are there: the kernel may have told only another listener of them, which was closed before it
  // accepted them. Does nothing if this one is closed or pauses.
  void line_up();

  // True for EMFILE, ENFILE, ENOBUFS, ENOMEM, and ENOSPC (of epoll_ctl(2)): it can succeed later, but not at once.
  [[nodiscard]] static bool out_of_resources(int error) noexcept;

 private:
  static const WatcherOps watcher_ops;
  static void on_ready(Watcher& watcher, unsigned ready);
  [[nodiscard]] bool is_shared() const noexcept { return shared_.load(std::memory_order_relaxed); }
  [[nodiscard]] unsigned wanted_interest() const noexcept;
  [[nodiscard]] int accept_some(int burst);
  void report(int error);

  const ListenerOps& ops_;  // static
  void* owner_;             // borrowed: the embedder
  int burst_ = 1;
  std::atomic<bool> shared_{false};
  [[no_unique_address, maybe_unused]] LiveCount<LiveClass::listener> live_;
};

}  // namespace zloop
