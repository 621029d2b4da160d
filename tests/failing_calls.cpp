// System calls, to be preloaded into an interpreter: those that the chosen callers make fail, or transfer less, when
// they are told to. The calls of all others are left alone. Nothing of it is in a build of zloop.
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

namespace {

struct Call {
  const char* name;
  std::atomic<long> count{0};               // calls made since the last plan
  std::atomic<bool> of_interpreter{false};  // the interpreter's own calls count, too
};

enum Name {
  recv_,
  recvfrom_,
  recvmsg_,
  recvmmsg_,
  send_,
  sendto_,
  sendmsg_,
  sendmmsg_,
  accept4_,
  connect_,
  so_error_,
  epoll_add_,
  epoll_wait_,
  epoll_create1_,
  eventfd_,
  socket_,
  nodelay_,
  getsockname_,
  getpeername_,
  shutdown_,
  close_,
  pipe_,
  socketpair_,
  sendfile_,
  read_,
  write_,
  writev_
};
Call calls[] = {{"recv"},        {"recvfrom"},      {"recvmsg"}, {"recvmmsg"}, {"send"},       {"sendto"},
                {"sendmsg"},     {"sendmmsg"},      {"accept4"}, {"connect"},  {"so_error"},   {"epoll_add"},
                {"epoll_wait"},  {"epoll_create1"}, {"eventfd"}, {"socket"},   {"nodelay"},    {"getsockname"},
                {"getpeername"}, {"shutdown"},      {"close"},   {"pipe"},     {"socketpair"}, {"sendfile"},
                {"read"},        {"write"},         {"writev"}};

// Written before the first plan.
std::string package;              // the path that the callers' shared objects begin with; empty: none
const void* interpreter[3] = {};  // where the objects that have its calls are mapped

struct Plan {
  std::atomic<const Call*> call{nullptr};  // points into `calls`
  std::atomic<long> first{0};
  std::atomic<long> times{0};
  std::atomic<int> error{0};  // 0: the call transfers one byte
};
Plan plans[2];

enum class Fate { passes, is_cut, fails };

template <std::size_t size>
bool is_any_of(const void* const (&several)[size], const void* one) {
  for (const void* each : several) {
    if (each == one) return true;
  }
  return false;
}

Fate fate(Name name, const void* caller) {
  Call& call = calls[name];
  Dl_info where{};
  if (dladdr(caller, &where) == 0) return Fate::passes;
  const bool is_interpreter = is_any_of(interpreter, where.dli_fbase);
  const bool is_package = !package.empty() && std::strncmp(where.dli_fname, package.c_str(), package.size()) == 0;
  if (!is_package && !(is_interpreter && call.of_interpreter)) return Fate::passes;
  const long n = ++call.count;
  for (const Plan& plan : plans) {
    if (plan.call != &call || n < plan.first || n >= plan.first + plan.times) continue;
    if (plan.error == 0) return Fate::is_cut;
    errno = plan.error;
    return Fate::fails;
  }
  return Fate::passes;
}

// Of read(2) and write(2), those of pipes and sockets count: no others are the loops'.
bool is_stream(int fd) {
  struct stat status{};
  return fstat(fd, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
}

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

const void* base_of(const void* address) {
  Dl_info where{};
  return dladdr(address, &where) != 0 ? where.dli_fbase : nullptr;
}

ssize_t cut_vectors(ssize_t (*real)(int, const msghdr*, int), int fd, const msghdr* message, int flags) {
  iovec one{message->msg_iov->iov_base, 1};
  msghdr cut = *message;
  cut.msg_iov = &one;
  cut.msg_iovlen = 1;
  return real(fd, &cut, flags);
}

}  // namespace

extern "C" {

void choose_package(const char* path) { package = path; }

// Addresses in the shared objects, or the program, that have the interpreter's system calls.
void choose_interpreter(const void* sockets, const void* select, const void* files) {
  interpreter[0] = base_of(sockets);
  interpreter[1] = base_of(select);
  interpreter[2] = base_of(files);
}

// Whether the interpreter's own calls of that name count, too, from now on.
void count_interpreter(const char* name, int does_count) {
  for (Call& call : calls) {
    if (std::strcmp(call.name, name) == 0) call.of_interpreter = does_count != 0;
  }
}

// One of two plans: the n-th call from now, and those directly behind it, `count` in all.
void plan_fault(int which, const char* name, long n, long count, int number) {
  Plan& plan = plans[which];
  plan.call = nullptr;
  for (Call& call : calls) call.count = 0;
  plan.first = n;
  plan.times = count;
  plan.error = number;
  for (const Call& call : calls) {
    if (std::strcmp(call.name, name) == 0) plan.call = &call;
  }
}

long count_calls(const char* name) {
  for (const Call& call : calls) {
    if (std::strcmp(call.name, name) == 0) return call.count;
  }
  return -1;
}

#define FATE_OF(name, symbol)                                   \
  static auto* const real = next<decltype(symbol)>(#symbol);    \
  const Fate what = fate(name##_, __builtin_return_address(0)); \
  if (what == Fate::fails) return -1
#define FATE(name) FATE_OF(name, name)

ssize_t recv(int fd, void* data, size_t size, int flags) {
  FATE(recv);
  return real(fd, data, what == Fate::is_cut && size > 1 ? 1 : size, flags);
}
ssize_t recvfrom(int fd, void* data, size_t size, int flags, sockaddr* peer, socklen_t* peer_size) {
  FATE(recvfrom);
  return real(fd, data, size, flags, peer, peer_size);
}
ssize_t recvmsg(int fd, msghdr* message, int flags) {
  FATE(recvmsg);
  return real(fd, message, flags);
}
int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* limit) {
  FATE(recvmmsg);
  return real(fd, messages, what == Fate::is_cut ? 1 : count, flags, limit);
}
ssize_t send(int fd, const void* data, size_t size, int flags) {
  FATE(send);
  return real(fd, data, what == Fate::is_cut && size > 1 ? 1 : size, flags);
}
ssize_t sendto(int fd, const void* data, size_t size, int flags, const sockaddr* peer, socklen_t peer_size) {
  FATE(sendto);
  return real(fd, data, size, flags, peer, peer_size);
}
ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  FATE(sendmsg);
  const bool has_bytes = message->msg_iovlen != 0 && message->msg_iov->iov_len != 0;
  return what == Fate::is_cut && has_bytes ? cut_vectors(real, fd, message, flags) : real(fd, message, flags);
}
int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  FATE(sendmmsg);
  return real(fd, messages, what == Fate::is_cut ? 1 : count, flags);
}
int accept4(int fd, sockaddr* peer, socklen_t* size, int flags) {
  FATE(accept4);
  return real(fd, peer, size, flags);
}
// One that a signal interrupts goes on in the background.
int connect(int fd, const sockaddr* peer, socklen_t size) {
  static auto* const real = next<decltype(connect)>("connect");
  const Fate what = fate(connect_, __builtin_return_address(0));
  if (what == Fate::fails && errno != EINTR) return -1;
  const int status = real(fd, peer, size);
  if (what != Fate::fails || (status < 0 && errno != EINPROGRESS)) return status;
  errno = EINTR;
  return -1;
}
// Of the options, SO_ERROR alone, which tells what became of a connection: it succeeds, and has the error.
int getsockopt(int fd, int level, int option, void* value, socklen_t* size) noexcept {
  static auto* const real = next<decltype(getsockopt)>("getsockopt");
  const int status = real(fd, level, option, value, size);
  if (level != SOL_SOCKET || option != SO_ERROR || status < 0) return status;
  if (fate(so_error_, __builtin_return_address(0)) == Fate::fails) *static_cast<int*>(value) = errno;
  return 0;
}
// Of the options, TCP_NODELAY alone, which connections are given.
int setsockopt(int fd, int level, int option, const void* value, socklen_t size) noexcept {
  static auto* const real = next<decltype(setsockopt)>("setsockopt");
  const bool is_nodelay = level == IPPROTO_TCP && option == TCP_NODELAY;
  if (is_nodelay && fate(nodelay_, __builtin_return_address(0)) == Fate::fails) return -1;
  return real(fd, level, option, value, size);
}
int getsockname(int fd, sockaddr* address, socklen_t* size) noexcept {
  FATE(getsockname);
  return real(fd, address, size);
}
int getpeername(int fd, sockaddr* address, socklen_t* size) noexcept {
  FATE(getpeername);
  return real(fd, address, size);
}
int shutdown(int fd, int how) noexcept {
  FATE(shutdown);
  return real(fd, how);
}
// The number is released also where there is an error.
int close(int fd) {
  static auto* const real = next<decltype(close)>("close");
  const Fate what = is_stream(fd) ? fate(close_, __builtin_return_address(0)) : Fate::passes;
  const int error = errno;
  const int status = real(fd);
  if (what != Fate::fails) return status;
  errno = error;
  return -1;
}
// Of its operations, adding alone may fail for reasons of the system's.
int epoll_ctl(int poller, int operation, int fd, epoll_event* event) noexcept {
  static auto* const real = next<decltype(epoll_ctl)>("epoll_ctl");
  const bool adds = operation == EPOLL_CTL_ADD;
  if (adds && fate(epoll_add_, __builtin_return_address(0)) == Fate::fails) return -1;
  return real(poller, operation, fd, event);
}
int epoll_wait(int poller, epoll_event* events, int capacity, int limit) {
  FATE(epoll_wait);
  return real(poller, events, what == Fate::is_cut ? 1 : capacity, limit);
}
int epoll_create1(int flags) noexcept {
  FATE(epoll_create1);
  return real(flags);
}
int eventfd(unsigned value, int flags) noexcept {
  FATE(eventfd);
  return real(value, flags);
}
int socket(int family, int type, int protocol) noexcept {
  FATE(socket);
  return real(family, type, protocol);
}
int socketpair(int family, int type, int protocol, int* ends) noexcept {
  FATE(socketpair);
  return real(family, type, protocol, ends);
}
int pipe(int* ends) noexcept {
  FATE(pipe);
  return real(ends);
}
int pipe2(int* ends, int flags) noexcept {
  FATE_OF(pipe, pipe2);
  return real(ends, flags);
}
ssize_t sendfile(int to, int from, off_t* offset, size_t size) noexcept {
  FATE(sendfile);
  return real(to, from, offset, what == Fate::is_cut && size > 1 ? 1 : size);
}
ssize_t sendfile64(int to, int from, off64_t* offset, size_t size) noexcept {
  FATE_OF(sendfile, sendfile64);
  return real(to, from, offset, what == Fate::is_cut && size > 1 ? 1 : size);
}
ssize_t read(int fd, void* data, size_t size) {
  static auto* const real = next<decltype(read)>("read");
  const Fate what = is_stream(fd) ? fate(read_, __builtin_return_address(0)) : Fate::passes;
  if (what == Fate::fails) return -1;
  return real(fd, data, what == Fate::is_cut && size > 1 ? 1 : size);
}
ssize_t write(int fd, const void* data, size_t size) {
  static auto* const real = next<decltype(write)>("write");
  const Fate what = is_stream(fd) ? fate(write_, __builtin_return_address(0)) : Fate::passes;
  if (what == Fate::fails) return -1;
  return real(fd, data, what == Fate::is_cut && size > 1 ? 1 : size);
}
ssize_t writev(int fd, const iovec* vectors, int count) {
  FATE(writev);
  if (what == Fate::passes || count == 0 || vectors->iov_len == 0) return real(fd, vectors, count);
  const iovec one{vectors->iov_base, 1};
  return real(fd, &one, 1);
}

// epoll_pwait2(2), which older C libraries have no function for, is called by its number. What waits for a static
// variable's initializer may come here, too, so that this function has none.
long call_by_number(long number, long a, long b, long c, long d, long e, long f) noexcept __asm__("syscall");
long call_by_number(long number, long a, long b, long c, long d, long e, long f) noexcept {
  static std::atomic<decltype(call_by_number)*> real{nullptr};
  if (real == nullptr) real = next<decltype(call_by_number)>("syscall");
  constexpr long epoll_pwait2 = 441;
  if (number == epoll_pwait2) {
    const Fate what = fate(epoll_wait_, __builtin_return_address(0));
    if (what == Fate::fails) return -1;
    if (what == Fate::is_cut) c = 1;
  }
  return real.load()(number, a, b, c, d, e, f);
}

}  // extern "C"
