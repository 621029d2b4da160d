// A listening socket: accepts what has arrived and passes each connection on.
//
// Borrows its descriptor and its reactor. A new connection's descriptor belongs to the owner from the call that brings
// it. Loop thread only.
#pragma once

#include <sys/socket.h>

#include "zloop/reactor.hpp"
#include "zloop/sys.hpp"
#include "zloop/watcher.hpp"

namespace zloop {

// The owner may close the listener from inside a call, but keeps both alive until Reactor::dispatch() is over: one
// event can bring several connections.
struct ListenerOps {  // as WatcherOps
  // The connection is non-blocking and close-on-exec.
  void (*on_accept)(void* owner, int fd, const sockaddr_storage& peer,
                    socklen_t peer_size) = [](void*, int fd, const sockaddr_storage&, socklen_t) { sys::close(fd); };
  // errno. When the process or system is out of a resource (see Listener::out_of_resources) the listener has paused
  // itself, because the kernel would go on reporting it; start() resumes.
  void (*on_error)(void* owner, int error) = [](void*, int) {};
};

class Listener final : private Watcher {
 public:
  Listener(const ListenerOps& ops, void* owner) noexcept : ops_(ops), owner_(owner) {}
  ~Listener() { close(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Accepts up to `burst` connections for each readiness event, so that one busy port cannot starve the loop.
  // 0 or -errno, as Reactor::attach.
  [[nodiscard]] int open(Reactor& reactor, int fd, int burst) noexcept;
  // The descriptor stays open. Harmless when closed; Reactor::close() does it too.
  void close() noexcept { detach(); }
  // False too when the descriptor was closed under us and its number went to another.
  [[nodiscard]] bool is_open() const noexcept { return attached(); }
  // As Watcher::lost(), also after close(): the owner neither uses nor closes the descriptor.
  using Watcher::lost;

  // 0 or -errno.
  [[nodiscard]] int start() noexcept { return set_interest(interest_read); }
  void pause() noexcept { drop_interest(interest_read); }

  // EMFILE, ENFILE, ENOBUFS, ENOMEM: waiting helps, trying again at once does not.
  [[nodiscard]] static bool out_of_resources(int error) noexcept;

 private:
  static const WatcherOps watcher_ops;
  static void on_ready(Watcher& watcher, unsigned ready);

  const ListenerOps& ops_;  // static
  void* owner_;             // borrowed: the embedder
  int burst_ = 1;
};

}  // namespace zloop
