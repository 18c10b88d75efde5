// Tokenizes what stands on standard input, to compare with other implementations: tokenize TOKENIZER_JSON. A line is
// a text's UTF-8 in hexadecimal digits; the answer is "id@place" of each token.
#include <cstdio>
#include <iostream>
#include <string>

#include "core/text/tokenizer.h"
#include "tests/files.h"

using namespace ldm;

int main(int count, char** arguments) {
    if (count != 2) return 2;
    Allocator machine = system_allocator();
    Failure failure;
    Scope scope{machine, failure};
    Arena arena(machine);
    Tokenizer tokenizer;
    if (!read_tokenizer(scope, arena, read_file(arguments[1]), arguments[1], tokenizer).ok()) {
        std::fprintf(stderr, "%s: %s\n", failure.code, failure.text);
        return 1;
    }
    std::string line, text;
    Array<Token> tokens(machine);
    while (std::getline(std::cin, line)) {
        text.clear();
        for (std::size_t at = 0; at + 1 < line.size(); at += 2) {
            text.push_back(static_cast<char>(std::stoi(line.substr(at, 2), nullptr, 16)));
        }
        tokens.shrink(0);
        if (!encode(scope, tokenizer, text, tokens).ok()) return 1;
        for (const Token& token : tokens) std::printf("%d@%u ", token.id, token.place);
        std::printf("\n");
    }
    return 0;
}
