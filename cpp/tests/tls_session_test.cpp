// OpenSsl and TlsSession, on the OpenSSL of the machine. Where there is none, only that is asserted.
#include "zloop/tls_session.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>
#include <optional>
#include <string>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"
#include "zloop/openssl.hpp"

namespace {

using zloop::TlsSession;
using zloop::test::Library;
using zloop::test::pattern;
using zloop::test::TlsContext;
using zloop::test::TlsEnd;
using zloop::test::TlsPair;
using zloop::test::with_allocations;

constexpr std::size_t record = 16384;

bool missing() {
  if (Library::get() != nullptr) return false;
  WARN("no " << Library::name << " here");
  CHECK(Library::get() == nullptr);
  return true;
}

TEST_CASE("messages of every size pass in both directions") {
  if (missing()) return;
  TlsPair pair;
  for (const std::size_t size : {std::size_t{1}, record - 1, record, record + 1, 5 * record}) {
    CHECK(pair.server.receive(pair.client.write(pattern(size))) == pattern(size));
    CHECK(pair.client.receive(pair.server.write(pattern(size))) == pattern(size));
  }
  CHECK(pair.client.last == TlsSession::want_read);
  CHECK(!pair.client.session.readable());
}

TEST_CASE("a handshake says that it waits, and that it is over") {
  if (missing()) return;
  TlsContext context;
  TlsEnd client(context, false);
  TlsEnd server(context, true);
  CHECK(server.session.do_handshake() == TlsSession::want_read);
  CHECK(server.session.output_size() == 0);
  CHECK(client.session.do_handshake() == TlsSession::want_read);
  server.take_from(client);
  CHECK(server.session.do_handshake() == TlsSession::want_read);
  client.take_from(server);
  CHECK(client.session.do_handshake() == TlsSession::want_read);
  server.take_from(client);
  CHECK(server.session.do_handshake() == 1);
  client.take_from(server);
  CHECK(client.session.do_handshake() == 1);
  CHECK(client.session.do_handshake() == 1);
}

TEST_CASE("a handshake that fails leaves the reason where OpenSSL has put it") {
  if (missing()) return;
  const zloop::OpenSsl& openssl = *Library::get()->openssl;
  TlsContext context;
  TlsEnd server(context, true);
  const std::string nonsense = pattern(64);
  server.session.feed(nonsense.data(), nonsense.size());
  CHECK(server.session.do_handshake() == TlsSession::failed);
  const unsigned long reason = openssl.ERR_peek_last_error();
  CHECK(reason != 0);
  CHECK(openssl.SSL_do_handshake(server.ssl) == -1);
  CHECK(openssl.ERR_peek_last_error() == reason);
  openssl.ERR_clear_error();
}

TEST_CASE("a record that comes in pieces is read when its last is there") {
  if (missing()) return;
  TlsPair pair;
  std::string ciphertext = pair.client.write(pattern(record));
  ciphertext += pair.client.write("next");
  const std::size_t cut = GENERATE(as<std::size_t>{}, 1, 4, 5, 6, 100, 16384);
  CHECK(pair.server.receive(ciphertext.substr(0, cut)).empty());
  CHECK(pair.server.last == TlsSession::want_read);
  CHECK(pair.server.receive(ciphertext.substr(cut)) == pattern(record) + "next");
}

TEST_CASE("readable_max() is close, and never too low") {
  if (missing()) return;
  TlsPair pair;
  TlsSession& session = pair.server.session;
  const std::size_t count = GENERATE(as<std::size_t>{}, 1, 2, 7);
  const std::string message = pattern(count * record);
  const std::string ciphertext = pair.client.write(message);
  CHECK(!session.readable());
  session.feed(ciphertext.data(), ciphertext.size());
  CHECK(session.readable());
  CHECK(session.readable_max() >= message.size());
  CHECK(session.readable_max() <= message.size() + (count * 64));
  CHECK(pair.server.read() == message);
  CHECK(!session.readable());
}

TEST_CASE("a record that is not complete counts for nothing, and OpenSSL is shown it") {
  if (missing()) return;
  TlsPair pair;
  TlsSession& session = pair.server.session;
  const std::string ciphertext = pair.client.write(pattern(2 * record));
  const std::size_t first = ciphertext.size() / 2;  // the size of a record
  const std::size_t cut = GENERATE_COPY(as<std::size_t>{}, 1, 4, 5, first - 1);
  session.feed(ciphertext.data(), cut);
  CHECK(session.readable());
  CHECK(session.readable_max() == 1);
  CHECK(pair.server.read().empty());
  session.retain();
  session.feed(ciphertext.data() + cut, ciphertext.size() - cut);
  CHECK(session.readable_max() >= 2 * record);
  CHECK(pair.server.read() == pattern(2 * record));
}

TEST_CASE("what is not read at once is kept, and more is appended to it") {
  if (missing()) return;
  TlsPair pair;
  std::string expected;
  for (int i = 0; i < 50; ++i) {
    const std::string message = pattern((static_cast<std::size_t>(i) * 100) + 1);
    expected += message;
    std::string ciphertext = pair.client.write(message);
    pair.server.session.feed(ciphertext.data(), ciphertext.size());
    pair.server.session.retain();
    ciphertext.assign(ciphertext.size(), '\0');  // the memory is somebody else's again
    if (i == 20) {
      std::array<char, 100> some{};
      REQUIRE(pair.server.session.read(some.data(), some.size()) == 1);
      expected.erase(0, 1);
    }
  }
  CHECK(pair.server.session.unread() > expected.size());
  CHECK(pair.server.session.readable_max() > expected.size());
  CHECK(pair.server.read() == expected);
  CHECK(pair.server.session.unread() == 0);
}

TEST_CASE("what was read of kept bytes takes no memory when most of them were read, and the rest stays in order") {
  if (missing()) return;
  TlsPair pair;
  TlsSession& session = pair.server.session;
  std::string expected;
  std::array<char, record> room{};
  const auto feed = [&] {
    const std::string message = pattern(record);
    const std::string ciphertext = pair.client.write(message);
    session.feed(ciphertext.data(), ciphertext.size());
    session.retain();
    expected += message;
  };
  for (int i = 0; i < 4; ++i) feed();
  std::string plain;
  for (int i = 0; i < 3; ++i) {
    const ssize_t size = session.read(room.data(), room.size());
    REQUIRE(size > 0);
    plain.append(room.data(), static_cast<std::size_t>(size));
  }
  for (int i = 0; i < 2; ++i) feed();
  CHECK(plain + pair.server.read() == expected);
  CHECK(session.unread() == 0);
}

TEST_CASE("without memory for what is unread it is dropped, and memory that is gone is not read") {
  if (missing()) return;
  TlsPair pair;
  TlsSession& session = pair.server.session;
  std::string ciphertext = pair.client.write(pattern(record));
  session.feed(ciphertext.data(), ciphertext.size());
  const auto retain = [&] {
    try {
      session.retain();
    } catch (const std::bad_alloc&) {
      return false;
    }
    return true;
  };
  CHECK_FALSE(with_allocations(0, retain));
  std::string().swap(ciphertext);
  CHECK(session.unread() == 0);
  CHECK_FALSE(session.readable());
  CHECK(pair.server.read().empty());
  CHECK(retain());
}

TEST_CASE("without memory for output a write fails, and what would wait afterwards") {
  if (missing()) return;
  TlsPair pair;
  TlsSession& session = pair.client.session;
  const std::string message = pattern(record);
  CHECK(with_allocations(0, [&] { return session.write(message.data(), message.size()); }) == TlsSession::failed);
  CHECK(session.output_lost());
  std::array<char, 100> buffer{};
  CHECK(session.read(buffer.data(), buffer.size()) == TlsSession::failed);
}

TEST_CASE("output goes into lent memory, and what does not fit follows elsewhere") {
  if (missing()) return;
  TlsPair pair;
  const std::string message = pattern(3 * record);
  std::string lent(TlsSession::ciphertext_size_max(message.size()), '\0');
  const std::size_t capacity = GENERATE(as<std::size_t>{}, 0, 1, 16384, 20000, 1 << 20);
  pair.client.session.lend(lent.data(), std::min(capacity, lent.size()));
  REQUIRE(pair.client.session.write(message.data(), message.size()) == static_cast<ssize_t>(message.size()));
  const std::size_t used = pair.client.session.take_back();
  CHECK(used <= capacity);
  const std::string rest = pair.client.output();
  CHECK(rest.empty() == (capacity >= lent.size()));
  CHECK(pair.server.receive(lent.substr(0, used) + rest) == message);
  CHECK(pair.server.receive(pair.client.write("not into lent memory")) == "not into lent memory");
}

TEST_CASE("nothing is put into lent memory while earlier output waits") {
  if (missing()) return;
  TlsPair pair;
  REQUIRE(pair.client.session.write("first", 5) == 5);
  std::array<char, 1000> lent{};
  pair.client.session.lend(lent.data(), lent.size());
  REQUIRE(pair.client.session.write("second", 6) == 6);
  CHECK(pair.client.session.take_back() == 0);
  CHECK(pair.server.receive(pair.client.output()) == "firstsecond");
}

TEST_CASE("the peer's farewell is the end") {
  if (missing()) return;
  TlsPair pair;
  std::string ciphertext = pair.client.write("last words");
  Library::get()->SSL_shutdown(pair.client.ssl);
  ciphertext += pair.client.output();
  CHECK(pair.server.receive(ciphertext) == "last words");
  CHECK(pair.server.last == TlsSession::ended);
}

TEST_CASE("a broken record fails, and what came before it is read") {
  if (missing()) return;
  TlsPair pair;
  std::string ciphertext = pair.client.write("good");
  ciphertext += pair.client.write("bad");
  ciphertext.back() = static_cast<char>(ciphertext.back() ^ 1);
  CHECK(pair.server.receive(ciphertext) == "good");
  CHECK(pair.server.last == TlsSession::failed);
  CHECK(Library::get()->openssl->ERR_peek_last_error() != 0);
  CHECK(pair.server.session.output_size() > 0);  // the alert
  SECTION("which is no failure of another session") {
    TlsPair other;
    CHECK(other.server.receive(other.client.write("fine")) == "fine");
    CHECK(other.server.last == TlsSession::want_read);
  }
}

TEST_CASE("what others have left in the queue of errors says nothing of the connection") {
  if (missing()) return;
  const Library& library = *Library::get();
  TlsPair pair;
  std::string ciphertext = pair.client.write("message");
  REQUIRE(library.BIO_new_file("/no/such/file", "r") == nullptr);
  const unsigned long old = library.openssl->ERR_peek_last_error();
  REQUIRE(old != 0);
  SECTION("it waits for the rest of a record") {
    CHECK(pair.server.receive(ciphertext.substr(0, 7)).empty());
    CHECK(pair.server.last == TlsSession::want_read);
    CHECK(pair.server.receive(ciphertext.substr(7)) == "message");
    CHECK(pair.client.receive(pair.server.write("answer")) == "answer");
  }
  SECTION("its end is no failure") {
    library.SSL_shutdown(pair.client.ssl);
    CHECK(pair.server.receive(ciphertext + pair.client.output()) == "message");
    CHECK(pair.server.last == TlsSession::ended);
  }
  SECTION("its failure is one, on both sides, and for its own reason") {
    ciphertext.back() = static_cast<char>(ciphertext.back() ^ 1);
    CHECK(pair.server.receive(ciphertext).empty());
    CHECK(pair.server.last == TlsSession::failed);
    const unsigned long reason = library.openssl->ERR_peek_last_error();
    CHECK(reason != old);
    CHECK(pair.client.receive(pair.server.output()).empty());
    CHECK(pair.client.last == TlsSession::failed);
    CHECK(library.openssl->ERR_peek_last_error() != reason);
  }
  library.openssl->ERR_clear_error();
}

TEST_CASE("an SSL outlives its session: it reads nothing, and what it writes is dropped") {
  if (missing()) return;
  const TlsContext context;
  const Library& library = *Library::get();
  ssl_st* ssl = library.SSL_new(context.get());
  std::optional<TlsSession> session;
  session.emplace();
  REQUIRE(session->open(*library.openssl, ssl));
  session.reset();
  library.SSL_set_connect_state(ssl);
  CHECK(library.openssl->SSL_do_handshake(ssl) == -1);
  constexpr int want_read = 2;
  CHECK(library.openssl->SSL_get_error(ssl, -1) == want_read);
  library.SSL_free(ssl);
}

TEST_CASE("pointers are found by what they lead to, and bad ones do no harm") {
  if (missing()) return;
  const zloop::OpenSsl& openssl = *Library::get()->openssl;
  const TlsContext context;
  ssl_st* ssl = Library::get()->SSL_new(context.get());
  bio_st* source = openssl.BIO_new(openssl.BIO_s_mem());
  bio_st* sink = openssl.BIO_new(openssl.BIO_s_mem());
  openssl.SSL_set_bio(ssl, source, sink);
  std::array<std::uintptr_t, 64> target{};  // readable, and nothing of interest
  std::array<std::uintptr_t, 8> object = {
      0, 1, 8, UINTPTR_MAX, UINTPTR_MAX - 7, reinterpret_cast<std::uintptr_t>(&target),
  };
  CHECK(zloop::find_memory_bio(openssl, &object, sizeof(object)) == -1);
  CHECK(zloop::find_ssl(openssl, &object, sizeof(object), source, sink) == -1);
  object[6] = reinterpret_cast<std::uintptr_t>(source);
  CHECK(zloop::find_memory_bio(openssl, &object, sizeof(object)) == 6 * sizeof(void*));
  object[7] = reinterpret_cast<std::uintptr_t>(ssl);
  CHECK(zloop::find_ssl(openssl, &object, sizeof(object), source, sink) == 7 * sizeof(void*));
  CHECK(zloop::find_ssl(openssl, &object, sizeof(object), sink, sink) == -1);
  CHECK(zloop::pointer_at(&object, 7 * sizeof(void*)) == ssl);
  CHECK(zloop::find_pointer(&object, sizeof(object), source) == 6 * sizeof(void*));
  CHECK(zloop::find_pointer(&object, sizeof(object), sink) == -1);
  CHECK(zloop::has_tls_method(openssl, openssl.SSL_get_SSL_CTX(ssl)));
  Library::get()->SSL_free(ssl);
}

}  // namespace
