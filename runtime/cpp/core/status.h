// What a function that can fail returns. The code is one of the runtime's stable codes (core/codes.h); the sentence is
// in the Failure of the Scope that it was called with.
#ifndef LDM_CORE_STATUS_H
#define LDM_CORE_STATUS_H

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "core/memory.h"

namespace ldm {

class [[nodiscard]] Status {
public:
    Status() = default;  // all is well
    explicit Status(const char* code) : code_(code) {}

    bool ok() const { return code_ == nullptr; }
    const char* code() const { return code_; }  // null where all is well

private:
    const char* code_ = nullptr;
};

// Writes what something is spelt as, at most `room` bytes of it, and returns how many there would be or more than
// `room`.
using Spelling = std::size_t (*)(const void* what, char* out, std::size_t room);

// A piece of a sentence: text, or a number; one with a fraction has six digits, as "%g" prints it.
class Piece {
public:
    Piece(std::string_view text) : kind_(Kind::text), text_(text) {}
    Piece(const char* text) : kind_(Kind::text), text_(text) {}
    Piece(double number) : kind_(Kind::real), real_(number) {}
    template <typename T, typename = std::enable_if_t<std::is_integral_v<T>>>
    Piece(T number) : kind_(std::is_signed_v<T> ? Kind::integer : Kind::natural) {
        if constexpr (std::is_signed_v<T>) {
            integer_ = number;
        } else {
            natural_ = number;
        }
    }

private:
    friend struct Failure;
    friend Piece quoted(std::string_view text);
    friend Piece quoted_whole(std::string_view text, bool goes_on);
    friend Piece exactly(double number);
    friend Piece spelt(const void* what, Spelling spelling);
    enum class Kind { text, quoted, quoted_whole, quoted_beginning, integer, natural, real, exact, spelt };
    Kind kind_;
    std::string_view text_;
    union {
        std::int64_t integer_;
        std::uint64_t natural_;
        Spelling spelling_;
        double real_ = 0.0;
    };
    const void* what_ = nullptr;
};

// Text of a file or of the caller as Python's repr spells it: in quotes, with what would command a terminal or hide in
// it escaped, and cut short.
Piece quoted(std::string_view text);

// The same of any length. goes_on: it is the beginning of a longer one, which "…" says.
Piece quoted_whole(std::string_view text, bool goes_on);

// A number so that it reads back as the same number: 7.5, 3.0.
Piece exactly(double number);

// What a function spells, in ASCII, cut short where it is long. `what` has to live until the sentence is made.
Piece spelt(const void* what, Spelling spelling);

// The last failure, in memory of its own: telling one needs no memory. Of a sentence that is too long the middle is
// left out, as in Python's runtime.
struct Failure {
    static constexpr std::size_t most_characters = 4000;
    static constexpr std::size_t room = 4 * most_characters + 1;

    const char* code = nullptr;
    char text[room] = {0};  // UTF-8, ends with 0

    void clear();
    void set(const char* code, std::initializer_list<Piece> sentence);
    void add(std::initializer_list<Piece> more);  // behind the sentence so far

private:
    friend class Writer;
    std::size_t characters_ = 0;  // of the sentence, with those that are left out
    std::size_t mark_bytes_ = 0;  // of what says how many they are; 0: none are
};

// Who wants to know in detail what is done; by default nobody.
struct Listener {
    void (*hear)(void* user, const char* sentence) = nullptr;
    void* user = nullptr;
};

// What every function of the core that can fail works with.
struct Scope {
    Allocator& memory;
    Failure& failure;
    Listener listener = {};

    // Tell a detail: what it is about, and the rest of the sentence. No lock is held meanwhile.
    void tell(std::string_view topic, std::initializer_list<Piece> sentence) const;

    // Keep a failure. The sentence says what was got, what was expected, where, and what to do.
    Status fail(const char* code, std::initializer_list<Piece> sentence);
    Status out_of_memory();
};

}  // namespace ldm

// Return the status of an expression unless all is well.
#define LDM_TRY(...)                                             \
    do {                                                         \
        ::ldm::Status ldm_status_ = (__VA_ARGS__);               \
        if (!ldm_status_.ok()) return ldm_status_;               \
    } while (false)

// Return "no memory is left" unless a pointer is there, or growing succeeded.
#define LDM_NEED(scope, ...)                                     \
    do {                                                         \
        if (!(__VA_ARGS__)) return (scope).out_of_memory();      \
    } while (false)

#endif
