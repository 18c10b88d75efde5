// Command lines: a verb, options with values, switches, and one name without a dash.
#ifndef LDM_TOOL_ARGUMENTS_H
#define LDM_TOOL_ARGUMENTS_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ldm::tool {

// One option of a verb. Given several times the last one counts, unless the verb takes all of them.
struct Option {
    std::string_view name;   // "--steps"
    std::string_view value;  // what help calls its value; "" for a switch
    std::string_view help;
};

class Arguments;

struct Verb {
    std::string_view name;
    std::string_view help;
    std::string_view example;
    const Option* options;
    std::size_t option_count;
    int (*run)(Arguments& arguments);
};

// What was given to a verb: its options, and the folder of a package. A failure is one sentence in `error`.
class Arguments {
public:
    // Read what follows the verb.
    bool read(const Verb& verb, int count, char** given);

    bool wants_help() const { return wants_help_; }
    const std::string& error() const { return error_; }
    const std::string& place() const { return place_; }
    // The value of an option; null where it was not given. It lasts as long as the arguments.
    const char* text(std::string_view name) const;
    std::vector<const char*> texts(std::string_view name) const;
    bool has(std::string_view name) const { return text(name) != nullptr; }

    // Values of a kind, in decimal digits; false with an error where it is none. Nothing changes where it was not
    // given.
    bool integer(std::string_view name, std::int32_t low, std::int32_t& out);
    bool path(std::string_view name);  // not empty
    bool natural(std::string_view name, std::uint64_t& out);
    bool real(std::string_view name, double& out);
    bool size(std::string_view name, std::int32_t& width, std::int32_t& height);   // "512x512"
    bool corner(std::string_view name, std::int32_t& top, std::int32_t& left);     // "0:128"
    bool reals(std::string_view name, double& first, double& second);              // "0.2:0.8"
    bool seed_and_share(std::string_view name, std::uint64_t& seed, double& share);  // "7:0.2"
    // One of some texts, and its place among them.
    bool choice(std::string_view name, const std::vector<std::string_view>& choices, std::int32_t& out);

    // Keep the sentence that a value is not what was expected.
    bool refuse(std::string_view name, std::string_view value, std::string_view expected);
    bool fail(std::string sentence);

private:
    struct Given {
        std::string_view name;
        const char* value;
    };
    bool read_option(const Verb& verb, int count, char** given, int& index);

    std::vector<Given> given_;
    std::string place_;
    std::string error_;
    bool wants_help_ = false;
};

// Of some names the one that is most like a word; "" where none is.
std::string_view nearest(std::string_view word, const std::vector<std::string_view>& names);

void print_help(const Verb& verb);

}  // namespace ldm::tool

#endif
