// SHA-256: the examples of FIPS 180-4, lengths around a block, and updates cut anywhere.
#include "core/sha256.h"

#include <string>

#include "tests/check.h"

using namespace ldm;

static std::string digest_of(std::string_view bytes) {
    Sha256 hash;
    hash.update(bytes);
    return std::string(hash.finish().hex().view());
}

int main() {
    CHECK(digest_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(digest_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(digest_of(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");

    std::string text;
    for (int index = 0; index < 200; ++index) text += static_cast<char>(index * 7);
    for (std::size_t size = 0; size <= text.size(); ++size) {
        std::string whole = digest_of(std::string_view(text).substr(0, size));
        for (std::size_t cut : {std::size_t{1}, std::size_t{55}, std::size_t{56}, std::size_t{64}, std::size_t{65}}) {
            if (cut > size) continue;
            Sha256 hash;
            hash.update(std::string_view(text).substr(0, cut));
            hash.update(std::string_view(text).substr(cut, size - cut));
            CHECK(std::string(hash.finish().hex().view()) == whole);
        }
    }
    return done();
}
