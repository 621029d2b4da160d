#include "zloop/listener.hpp"

#include <cassert>
#include <cerrno>

#include "zloop/sys.hpp"

namespace zloop {

const WatcherOps Listener::watcher_ops = {.on_ready = &Listener::on_ready, .always_pollable = true};

bool Listener::out_of_resources(int error) noexcept {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

int Listener::open(Reactor& reactor, int fd, int burst) noexcept {
  assert(!is_open());
  const int status = reactor.attach(*this, fd, watcher_ops);
  if (status < 0) return status;
  burst_ = burst > 0 ? burst : 1;
  return 0;
}

void Listener::on_ready(Watcher& watcher, unsigned /*ready*/) {
  auto& listener = static_cast<Listener&>(watcher);  // NOLINT(*-static-cast-downcast): open() attaches no other
  for (int i = 0; i < listener.burst_; ++i) {
    // A callback may close or pause the listener.
    if (!listener.is_open() || listener.interest() == interest_none) return;
    sockaddr_storage peer{};
    socklen_t peer_size = 0;
    const int fd = sys::accept(listener.fd(), &peer, &peer_size);
    if (fd >= 0) {
      listener.ops_.on_accept(listener.owner_, fd, peer, peer_size);
      continue;
    }
    const int error = -fd;
    if (error == EAGAIN || error == EWOULDBLOCK) return;
    if (sys::failed_before_accept(error)) continue;
    if (out_of_resources(error)) listener.pause();
    listener.ops_.on_error(listener.owner_, error);
    return;
  }
}

}  // namespace zloop
