// What a network peer may send to a TLS session. The first bytes of an input say to whom it is sent and in what pieces;
// the others are sent as they are, or are edits of what a correct peer sends. Whatever it is, the session says that it
// waits, is ready, has ended or has failed; and what it decrypts is what was encrypted, as far as it goes.
#include <string>
#include <utility>

#include "fuzzing/target.hpp"
#include "support/expect.hpp"
#include "support/tls.hpp"

namespace {

using zloop::TlsSession;
using zloop::test::expect;
using zloop::test::Library;
using zloop::test::TlsContext;
using zloop::test::TlsEnd;
using zloop::test::TlsPair;

// Reads an input from its beginning to its end; behind that there are zeros.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  [[nodiscard]] bool empty() const { return size_ == 0; }

  std::uint8_t byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }

  std::size_t number() {
    const std::size_t low = byte();
    return low | (static_cast<std::size_t>(byte()) << 8);
  }

  std::string rest() {
    std::string bytes(data_, data_ + size_);
    size_ = 0;
    return bytes;
  }

 private:
  const std::uint8_t* data_;  // borrowed
  std::size_t size_;
};

// Changes bytes as the rest of an input says: each edit has a kind, a place and a value.
std::string edited(std::string bytes, Input& input) {
  while (!input.empty() && !bytes.empty()) {
    const std::uint8_t kind = input.byte();
    const std::size_t place = input.number() % bytes.size();
    const std::uint8_t value = input.byte();
    switch (kind % 5) {
      case 0:
        bytes[place] = static_cast<char>(bytes[place] ^ value);
        break;
      case 1:
        bytes.erase(place, value);
        break;
      case 2:
        bytes.insert(place, value, static_cast<char>(kind));
        break;
      case 3:
        bytes.insert(place, bytes.substr(0, value));
        break;
      default:
        bytes.resize(place);
    }
  }
  return bytes;
}

void check_result(ssize_t result, std::size_t most) {
  expect(result >= TlsSession::failed, "a result is a number of bytes, or one of those that are named");
  expect(result <= 0 || std::cmp_less_equal(result, most), "no more is read than there is room for");
}

// How the bytes arrive.
struct Pieces {
  explicit Pieces(Input& input) : piece(input.byte()), room(input.byte()) {
    if (piece == 0) piece = 1U << 20;
    if (room == 0) room = 20000;
  }

  std::size_t piece;  // bytes that come at a time
  std::size_t room;   // bytes that are read at a time
};

// Sends bytes to an end whose handshake is not over; then what it could be read as.
void shake_hands(TlsEnd& end, const std::string& bytes, const Pieces& pieces) {
  ssize_t result = end.session.do_handshake();
  for (std::size_t begin = 0; begin < bytes.size() && result == TlsSession::want_read; begin += pieces.piece) {
    const std::string piece = bytes.substr(begin, pieces.piece);
    const std::size_t unread = end.session.unread();
    end.session.feed(piece.data(), piece.size());
    result = end.session.do_handshake();
    check_result(result, 1);
    expect(end.session.unread() <= unread + piece.size(), "no more is left than was fed");
    end.session.retain();
  }
  end.session.clear_output();
}

// Sends bytes to an end whose handshake is over. What it decrypts.
std::string decrypt(TlsEnd& end, const std::string& bytes, const Pieces& pieces) {
  std::string plain;
  std::string room(pieces.room, '\0');
  ssize_t result = TlsSession::want_read;
  for (std::size_t begin = 0; begin < bytes.size() && result == TlsSession::want_read; begin += pieces.piece) {
    const std::string piece = bytes.substr(begin, pieces.piece);
    end.session.feed(piece.data(), piece.size());
    for (result = 1; result > 0;) {
      const bool readable = end.session.readable();
      expect(end.session.readable_max() > 0, "there is always something to make room for");
      result = end.session.read(room.data(), room.size());
      check_result(result, room.size());
      expect(readable || result == TlsSession::want_read, "what is not readable has to wait");
      if (result > 0) plain.append(room, 0, static_cast<std::size_t>(result));
    }
    end.session.retain();
    expect(!end.session.output_lost(), "there is memory for what is answered");
  }
  end.session.clear_output();
  return plain;
}

// Before the handshake, with bytes as they are or with edits of a flight.
void take_handshake(Input input, bool to_server, bool as_they_are, const Pieces& pieces) {
  const TlsContext context;
  TlsEnd client(context, false);
  TlsEnd server(context, true);
  client.session.do_handshake();
  if (!to_server) {
    server.take_from(client);
    server.session.do_handshake();
  }
  const std::string flight = (to_server ? client : server).output();
  shake_hands(to_server ? server : client, as_they_are ? input.rest() : edited(flight, input), pieces);
}

// Behind the handshake, with edits of records.
void take_records(Input input, const Pieces& pieces) {
  TlsPair pair;
  std::string plain(20000 + input.number(), '\0');
  for (std::size_t index = 0; index < plain.size(); ++index) plain[index] = static_cast<char>(index % 251);
  std::string records = pair.client.write(plain.substr(0, 1));
  records += pair.client.write(plain.substr(1, 99));
  records += pair.client.write(plain.substr(100));
  const bool intact = input.empty();
  const std::string decrypted = decrypt(pair.server, edited(std::move(records), input), pieces);
  expect(plain.starts_with(decrypted), "what is decrypted is what was encrypted");
  expect(!intact || decrypted == plain, "what nobody has changed is decrypted to its end");
}

void take(Input input) {
  const std::uint8_t scenario = input.byte() % 6;
  const Pieces pieces(input);
  if (scenario < 4) {
    take_handshake(input, scenario % 2 == 0, scenario < 2, pieces);
  } else if (scenario == 4) {
    TlsPair pair;
    decrypt(pair.server, input.rest(), pieces);
  } else {
    take_records(input, pieces);
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (Library::get() == nullptr) return 0;  // no OpenSSL here
  take({data, size});
  Library::get()->openssl->ERR_clear_error();
  return 0;
}
