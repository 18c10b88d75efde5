// A path in UTF-8, in memory of its own: to name a file needs no memory of the host's.
#ifndef LDM_FILES_PATH_H
#define LDM_FILES_PATH_H

#include <cstddef>
#include <cstring>
#include <string_view>

namespace ldm::files {

#if defined(_WIN32)
inline constexpr std::string_view separators = "/\\";
#else
inline constexpr std::string_view separators = "/";
#endif

class Path {
public:
    static constexpr std::size_t room = 4096;  // bytes, as in Linux

    Path() { text_[0] = 0; }
    explicit Path(std::string_view path) : Path() {
        add(path);
        while (size_ > 1 && ends_with_separator()) cut(size_ - 1);
    }
    Path(const Path& folder, std::string_view name) : Path(folder) { enter(name); }

    // Append text as it is. A path that is too long stays so, and no system call takes it.
    void add(std::string_view text) {
        fits_ = fits_ && text.size() < room - size_;
        if (!fits_ || text.empty()) return;
        std::memcpy(text_ + size_, text.data(), text.size());
        size_ += text.size();
        text_[size_] = 0;
    }
    // Append a name below.
    void enter(std::string_view name) {
        if (size_ > 0 && !ends_with_separator()) add("/");
        add(name);
    }
    void cut(std::size_t size) {
        size_ = size;
        text_[size_] = 0;
    }

    bool fits() const { return fits_; }
    const char* c_str() const { return text_; }
    std::string_view view() const { return {text_, size_}; }
    operator std::string_view() const { return view(); }

    // The last name, and what is before it ("" for a name alone).
    std::string_view name() const { return view().substr(start_of_name()); }
    Path parent() const {
        std::size_t start = start_of_name();
        return Path(view().substr(0, start));
    }
    // Whether it is `folder` or lies below it, both spelt without links.
    bool lies_in(const Path& folder) const {
        std::string_view above = folder.view(), here = view();
        if (here.substr(0, above.size()) != above) return false;
        return here.size() == above.size() || folder.ends_with_separator() ||
               separators.find(here[above.size()]) != std::string_view::npos;
    }

private:
    bool ends_with_separator() const {
        return size_ > 0 && separators.find(text_[size_ - 1]) != std::string_view::npos;
    }
    std::size_t start_of_name() const {
        std::size_t last = view().find_last_of(separators);
        return last == std::string_view::npos ? 0 : last + 1;
    }

    std::size_t size_ = 0;
    bool fits_ = true;
    char text_[room];
};

}  // namespace ldm::files

#endif
