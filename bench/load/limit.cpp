// The limit: what a server costs that has no Python in it. One thread, epoll, the fewest system calls.
//
//   limit KIND --listen ADDRESS [OPTION VALUE]...
//
//   KIND       echo, http, answer, file (an answer by sendfile), sink, source, datagrams
//   ADDRESS    tcp:0, udp:0, or unix:PATH
//   --core N   stay on this core
//   --size BYTES, --answer BYTES, --burst N, --answers N
//   --certificate FILE --key FILE    serve through TLS
//
// Prints the port once it listens. Ends after ten minutes at the latest.
#include <unistd.h>

#include <csignal>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

#include "options.hpp"
#include "services.hpp"

namespace {

constexpr unsigned longest_run_seconds = 600;

struct Options {
  bench::Service service;
  std::string listen;
  std::string certificate;
  std::string key;
  int core = -1;
};

constexpr bench::Table<bench::Kind, 7> kinds = {
    {
        {"echo", bench::Kind::echo},
        {"http", bench::Kind::http},
        {"answer", bench::Kind::answer},
        {"file", bench::Kind::file},
        {"sink", bench::Kind::sink},
        {"source", bench::Kind::source},
        {"datagrams", bench::Kind::datagrams},
    },
};

constexpr bench::Table<bench::Setting<Options>, 8> settings = {
    {
        {"--listen", [](Options& o, const std::string& text) { o.listen = text; }},
        {"--core", [](Options& o, const std::string& text) { o.core = std::stoi(text); }},
        {"--size", [](Options& o, const std::string& text) { o.service.size = std::stoul(text); }},
        {"--answer", [](Options& o, const std::string& text) { o.service.answer = std::stoul(text); }},
        {"--burst", [](Options& o, const std::string& text) { o.service.burst = std::stoul(text); }},
        {"--answers", [](Options& o, const std::string& text) { o.service.answers = std::stoul(text); }},
        {"--certificate", [](Options& o, const std::string& text) { o.certificate = text; }},
        {"--key", [](Options& o, const std::string& text) { o.key = text; }},
    },
};

Options parse(std::span<char*> arguments) {
  Options options;
  bench::read_options(settings, arguments, options);
  options.service.kind = bench::look_up(kinds, arguments[1]);
  if (!options.certificate.empty()) {
    options.service.transport = bench::make_tls_server(options.certificate, options.key);
  }
  return options;
}

}  // namespace

int main(int count, char** arguments) {
  ::alarm(longest_run_seconds);
  try {
    const Options options = parse({arguments, static_cast<std::size_t>(count)});
    bench::raise_descriptor_limit();
    bench::pin_to_core(options.core);
    static_cast<void>(::signal(SIGPIPE, SIG_IGN));  // OpenSSL writes with write(2), also to clients that have gone
    const bench::Descriptor socket = bench::bind_to(bench::Address(options.listen));
    std::cout << bench::port_of(socket) << '\n' << std::flush;
    if (options.service.kind == bench::Kind::datagrams) bench::serve_datagrams(options.service, socket);
    bench::serve_streams(options.service, socket);
  } catch (const std::exception& error) {
    std::cerr << "limit: " << error.what() << '\n';
    return 1;
  }
}
