#include "zloop/listener.hpp"

#include <cassert>
#include <cerrno>

#include "zloop/sys.hpp"

namespace zloop {

const WatcherOps Listener::watcher_ops = {.on_ready = &Listener::on_ready, .always_pollable = true};

bool Listener::out_of_resources(int error) noexcept {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM || error == ENOSPC;
}

int Listener::open(Reactor& reactor, int fd, int burst) noexcept {
  assert(!is_open());
  const int status = reactor.attach(*this, fd, watcher_ops);
  if (status < 0) return status;
  burst_ = burst > 0 ? burst : 1;
  return 0;
}

int Listener::start() noexcept {
  return is_shared() && is_open() ? reactor().requeue(*this, wanted_interest()) : set_interest(wanted_interest());
}

unsigned Listener::wanted_interest() const noexcept {
  return is_shared() ? interest_read | interest_exclusive : unsigned{interest_read};
}

void Listener::on_ready(Watcher& watcher, unsigned /*ready*/) {
  auto& listener = static_cast<Listener&>(watcher);  // NOLINT(*-static-cast-downcast): open() attaches no other
  const bool shared = listener.is_shared();
  if (listener.accept_some(shared ? 1 : listener.burst_) > 0 && shared) listener.line_up();
}

// Returns how many connections the owner got.
int Listener::accept_some(int burst) {
  int accepted = 0;
  for (int i = 0; i < burst; ++i) {
    // A callback may close or pause the listener.
    if (!is_open() || interest() == interest_none) break;
    sockaddr_storage peer{};
    socklen_t peer_size = 0;
    const int fd = sys::accept(this->fd(), &peer, &peer_size);
    if (fd >= 0) {
      ++accepted;
      ops_.on_accept(owner_, fd, peer, peer_size);
      continue;
    }
    const int error = -fd;
    if (error == EAGAIN || error == EWOULDBLOCK) break;
    if (sys::failed_before_accept(error)) continue;
    report(error);
    break;
  }
  return accepted;
}

void Listener::line_up() {
  if (!is_open() || interest() == interest_none) return;
  const int status = reactor().requeue(*this, wanted_interest());
  if (status < 0 && !lost()) report(-status);
}

void Listener::report(int error) {
  if (out_of_resources(error)) pause();
  ops_.on_error(owner_, error);
}

}  // namespace zloop
