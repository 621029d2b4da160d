// Requests and answers over connections that stay open.
#include <sys/timerfd.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "modes.hpp"

namespace bench {

namespace {

constexpr std::size_t receive_size = std::size_t{256} * 1024;
constexpr std::string_view end_of_head = "\r\n\r\n";

// Letters, in which a lost or misplaced piece shows; they end with the only line feed.
std::string make_message(std::size_t size) {
  constexpr unsigned period = 8191;  // a prime: no power of two is a multiple
  std::string message(size, '\n');
  for (std::size_t i = 0; i + 1 < size; ++i) message[i] = static_cast<char>('a' + (i % period % 23));
  return message;
}

// A client's binary frame of at most 65,535 bytes. RFC 6455: length, mask, then the masked payload; a mask of zeroes
// leaves it as it is.
std::string make_frame(const std::string& payload, bool masked) {
  constexpr std::size_t longest_short = 125;
  const unsigned mask_bit = masked ? 0x80U : 0U;
  std::string frame(1, '\x82');
  if (payload.size() <= longest_short) {
    frame += static_cast<char>(mask_bit | payload.size());
  } else {
    frame += static_cast<char>(mask_bit | 126U);
    frame += static_cast<char>(payload.size() >> 8U);
    frame += static_cast<char>(payload.size() & 0xffU);
  }
  if (masked) frame.append(4, '\0');
  return frame + payload;
}

void send_all(Channel& channel, Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t count = channel.send(bytes);
    if (count == Channel::would_block) throw std::runtime_error("the server does not read");
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void receive_more(Channel& channel, std::string& received) {
  std::string room(receive_size, '\0');
  const ssize_t count = channel.receive(room);
  if (count == 0) throw std::runtime_error("the server closed the connection");
  if (count == Channel::would_block) throw std::runtime_error("the server does not answer");
  received.append(room, 0, static_cast<std::size_t>(count));
}

std::string receive_exactly(Channel& channel, std::size_t size) {
  std::string received;
  while (received.size() < size) receive_more(channel, received);
  return received;
}

// An HTTP answer, whose head must say how long it is unless it is only a head.
std::string receive_http(Channel& channel, std::string_view status, bool has_body) {
  std::string received;
  std::size_t head = std::string::npos;
  while ((head = received.find(end_of_head)) == std::string::npos) receive_more(channel, received);
  head += end_of_head.size();
  if (!received.starts_with(status)) throw std::runtime_error("the server answered " + received.substr(0, 40));
  if (!has_body) return received;
  std::string lower = received.substr(0, head);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::string_view field = "content-length: ";
  const auto at = lower.find(field);
  if (at == std::string::npos) throw std::runtime_error("the server does not say how long its answer is");
  std::size_t body = 0;
  std::from_chars(lower.data() + at + field.size(), lower.data() + lower.size(), body);
  while (received.size() < head + body) receive_more(channel, received);
  return received;
}

void expect(const std::string& received, const std::string& expected) {
  if (received != expected) throw std::runtime_error("the server answered with other bytes than were expected");
}

Script rehearse_http(Channel& channel) {
  Script script;
  script.request = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n";
  send_all(channel, script.request);
  script.answer_begins = "HTTP/1.1 200";
  script.answer = receive_http(channel, script.answer_begins, true).size();
  return script;
}

Script rehearse_websocket(Channel& channel, std::size_t size) {
  Script script;
  script.opening =
      "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n";
  send_all(channel, script.opening);
  script.opening_answer = receive_http(channel, "HTTP/1.1 101", false).size();
  script.request = make_frame(make_message(size), true);
  const std::string echo = make_frame(make_message(size), false);
  send_all(channel, script.request);
  expect(receive_exactly(channel, echo.size()), echo);
  script.answer = echo.size();
  script.answer_begins = echo.substr(0, 2);
  return script;
}

Script rehearse_message(Channel& channel, std::size_t size, std::size_t answer) {
  Script script;
  script.request = make_message(size);
  send_all(channel, script.request);
  script.answer = answer == 0 ? size : answer;
  const std::string received = receive_exactly(channel, script.answer);
  if (answer == 0) expect(received, script.request);
  script.answer_begins = received.substr(0, 1);
  return script;
}

// Ends a wait at a moment, more closely than epoll_wait()'s milliseconds.
class Alarm {
 public:
  Alarm() : fd_(check(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create")) {}

  [[nodiscard]] int fd() const { return fd_.get(); }

  // Clock::time_point::max(): never.
  void set(Clock::time_point time) const {
    itimerspec spec{};  // zero: never
    if (time != Clock::time_point::max()) {
      const auto since_boot = time.time_since_epoch();
      const auto seconds = std::chrono::floor<std::chrono::seconds>(since_boot);
      spec.it_value = {.tv_sec = seconds.count(), .tv_nsec = (since_boot - seconds).count()};
    }
    check(::timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &spec, nullptr), "timerfd_settime");
  }

 private:
  Descriptor fd_;
};

// One connection, and how far it is with what it says.
class Speaker {
 public:
  // A request is due every `period`, from `due` on; zero: whenever the last one is answered.
  Speaker(std::unique_ptr<Channel> channel, const Script& script, Clock::duration period, Clock::time_point due)
      : channel_(std::move(channel)),
        script_(script),
        period_(period),
        due_(due),
        opening_(!script.opening.empty()),
        waits_(period > Clock::duration::zero()) {}

  [[nodiscard]] int fd() const { return channel_->fd(); }

  // When there is something to do without an answer; Clock::time_point::max() while one is waited for.
  [[nodiscard]] Clock::time_point due() const { return waits_ ? due_ : Clock::time_point::max(); }

  void begin() { begin(Clock::now()); }

  void begin_if_due(Clock::time_point now) {
    if (!waits_ || now < due_) return;
    begin(due_);
  }

  // Edge-triggered readiness: goes on until the socket has no more, or a new request is on its way, whose answer is
  // news.
  void continue_exchange(std::span<char> room, Meter& meter) {
    while (true) {
      if (!waits_) send();
      const ssize_t count = channel_->receive(room);
      if (count == Channel::would_block) return;
      if (count == 0) throw std::runtime_error("the server closed the connection");
      take(room.first(static_cast<std::size_t>(count)));
      if (received_ == expected()) {
        complete(meter);
        if (!channel_->holds_back()) return;
      }
    }
  }

 private:
  void begin(Clock::time_point began) {
    began_ = began;
    waits_ = false;
    sent_ = received_ = 0;
    send();
  }

  [[nodiscard]] const std::string& message() const { return opening_ ? script_.opening : script_.request; }
  [[nodiscard]] std::size_t expected() const { return opening_ ? script_.opening_answer : script_.answer; }

  void send() {
    while (sent_ < message().size()) {
      const ssize_t count = channel_->send(Bytes(message()).subspan(sent_));
      if (count == Channel::would_block) return;
      sent_ += static_cast<std::size_t>(count);
    }
  }

  void take(Bytes bytes) {
    if (received_ == 0 && !opening_) {
      const auto begins = Bytes(script_.answer_begins).first(std::min(script_.answer_begins.size(), bytes.size()));
      if (!std::ranges::equal(begins, bytes.first(begins.size()))) throw std::runtime_error("a wrong answer");
    }
    received_ += bytes.size();
    if (received_ > expected()) throw std::runtime_error("the server answered more than was asked");
  }

  void complete(Meter& meter) {
    const auto now = Clock::now();
    if (!opening_) {
      meter.complete(began_, now);
      due_ += period_;
    }
    opening_ = false;
    waits_ = period_ > Clock::duration::zero();
    waits_ ? begin_if_due(now) : begin(now);
  }

  std::unique_ptr<Channel> channel_;
  const Script& script_;
  Clock::duration period_;
  Clock::time_point due_;
  Clock::time_point began_;
  std::size_t sent_ = 0;
  std::size_t received_ = 0;
  bool opening_;
  bool waits_;  // for its time
};

}  // namespace

Script probe(const Options& options) {
  const auto channel = options.transport->open(connect_to(*options.server, Blocking::yes));
  Script script;
  if (options.mode == "http") {
    script = rehearse_http(*channel);
  } else if (options.mode == "websocket") {
    script = rehearse_websocket(*channel, options.size);
  } else {
    script = rehearse_message(*channel, options.size, options.answer);
  }
  channel->say_goodbye();
  return script;
}

void exchange(const Options& options) {
  const Script script = probe(options);
  std::vector<Speaker> speakers;
  Epoll epoll;
  // One connection after the other, and not all at once.
  const auto period = [&](std::size_t requests) {
    return options.rate == 0 ? Clock::duration::zero()
                             : std::chrono::nanoseconds(1'000'000'000 * requests / options.rate);
  };
  const auto start = Clock::now() + std::chrono::milliseconds(100);
  for (std::size_t number = 0; number < options.connections; ++number) {
    auto socket = connect_to(*options.server, Blocking::no, static_cast<std::uint32_t>(number));
    speakers.emplace_back(options.transport->open(std::move(socket)), script, period(options.connections),
                          start + period(number));
    // Writable at once, which is what makes it begin.
    epoll.add(speakers.back().fd(), EPOLLIN | EPOLLOUT | EPOLLET, number);
  }
  if (options.rate == 0 || !script.opening.empty()) {
    for (auto& speaker : speakers) speaker.begin();
  }
  const Alarm alarm;
  epoll.add(alarm.fd(), EPOLLIN | EPOLLET, options.connections);
  std::vector<char> room(receive_size);
  Meter meter(options.server_pid, options.warm_up, options.window);
  while (!meter.over()) {
    if (options.rate != 0) {
      for (auto& speaker : speakers) speaker.begin_if_due(Clock::now());
      alarm.set(std::ranges::min_element(speakers, {}, &Speaker::due)->due());
    }
    for (const auto& event : epoll.wait(meter.until_next_phase())) {
      if (event.data.u64 < speakers.size()) speakers[event.data.u64].continue_exchange(room, meter);
    }
    meter.tick();
  }
  meter.print();
}

}  // namespace bench
