// SPDX-License-Identifier: Apache-2.0
// As much of PromQL's lexer as it takes to find metrics: words, and strings, in which nothing is one.
local isWord(c) =
  (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == ':';

// What the agent exports itself. A recorded series is made of these, so it needs no matchers of its own, and those that
// are sums have not the labels for them.
local isExported(word) =
  word == 'up' || std.startsWith(word, 'tdx_') || std.startsWith(word, 'process_');

local quotes = ['"', "'", '`'];

// [class, text]: a word, a string, or one character of anything else.
local tokens(text) =
  local size = std.length(text);
  local wordEnd(i) = if i < size && isWord(text[i]) then wordEnd(i + 1) else i;
  local stringEnd(i, quote) =
    if i >= size then error 'no end of a string in: ' + text
    else if text[i] == quote then i + 1
    else if text[i] == '\\' && quote != '`' then stringEnd(i + 2, quote)
    else stringEnd(i + 1, quote);
  local from(i, found) =
    if i >= size then found
    else
      local kind = if isWord(text[i]) then 'word' else if std.member(quotes, text[i]) then 'string' else 'other';
      local end =
        if kind == 'word' then wordEnd(i)
        else if kind == 'string' then stringEnd(i + 1, text[i])
        else i + 1;
      from(end, found + [{ kind: kind, text: std.substr(text, i, end - i) }]) tailstrict;
  from(0, []);

{
  // The expression with these matchers in every selector of a metric that the agent exports.
  withSelector(text, selector)::
    if selector == '' then text
    else
      local found = tokens(text);
      local opens(i) = i < std.length(found) && found[i].text == '{';
      local closes(i) = i < std.length(found) && found[i].text == '}';
      local isMetric(i) = i >= 0 && found[i].kind == 'word' && isExported(found[i].text);
      std.join('', [
        local token = found[i].text;
        if isMetric(i) && !opens(i + 1) then token + '{' + selector + '}'
        else if opens(i) && isMetric(i - 1) then token + selector + (if closes(i + 1) then '' else ',')
        else token
        for i in std.range(0, std.length(found) - 1)
      ]),
}
