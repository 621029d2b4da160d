// The part of <sys/event.h> that the kqueue backend needs, for systems without kqueue: see fake_kqueue.cpp.
#pragma once
#pragma GCC system_header

#include <cstdint>
#include <ctime>

// NOLINTBEGIN(cppcoreguidelines-macro-usage,modernize-macro-to-enum,cppcoreguidelines-macro-to-enum): the system's
#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)
#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_ENABLE 0x0004
#define EV_CLEAR 0x0020
// NOLINTEND(cppcoreguidelines-macro-usage,modernize-macro-to-enum,cppcoreguidelines-macro-to-enum)

// NOLINTNEXTLINE(readability-identifier-naming): the system's name
struct kevent {
  std::uintptr_t ident;
  std::int16_t filter;
  std::uint16_t flags;
};

extern "C" {
int kqueue();
int kevent(int queue, const struct kevent* changes, int changes_count, struct kevent* events, int events_count,
           const timespec* timeout);
}
