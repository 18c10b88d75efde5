#include "src/tool/utf8.h"

#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <shellapi.h>

#include <string>
#include <vector>

namespace ldm::tool {

char** in_utf8(int& count, char** given) {
    static std::vector<std::string> texts;
    static std::vector<char*> arguments;
    ::SetConsoleOutputCP(CP_UTF8);
    int wide_count = 0;
    wchar_t** wide = ::CommandLineToArgvW(::GetCommandLineW(), &wide_count);
    if (wide == nullptr) return given;
    texts.resize(static_cast<std::size_t>(wide_count));
    for (std::size_t index = 0; index < texts.size(); ++index) {
        int bytes = ::WideCharToMultiByte(CP_UTF8, 0, wide[index], -1, nullptr, 0, nullptr, nullptr);
        if (bytes <= 0) continue;
        texts[index].resize(static_cast<std::size_t>(bytes));  // with its NUL
        ::WideCharToMultiByte(CP_UTF8, 0, wide[index], -1, texts[index].data(), bytes, nullptr, nullptr);
    }
    ::LocalFree(wide);
    for (std::string& text : texts) arguments.push_back(text.data());
    count = wide_count;
    arguments.push_back(nullptr);
    return arguments.data();
}

}  // namespace ldm::tool

#else

char** ldm::tool::in_utf8(int&, char** given) { return given; }

#endif
