-- Fills the hole at the cursor. Put this file into ~/.config/nvim/lua/ and into init.lua:
--   vim.keymap.set("i", "<C-l>", require("unmask").fill)
local M = { url = "http://127.0.0.1:8080" }
local running

-- A request ends with its connection, so an obsolete one costs nothing.
function M.cancel()
  if running then vim.fn.jobstop(running) end
  running = nil
end

function M.fill()
  M.cancel()
  local buffer, tick = vim.api.nvim_get_current_buf(), vim.b.changedtick
  local row, column = unpack(vim.api.nvim_win_get_cursor(0))
  local lines = vim.api.nvim_buf_get_lines(buffer, 0, -1, false)
  local before, after = vim.list_slice(lines, 1, row), vim.list_slice(lines, row, #lines)
  before[#before], after[1] = before[#before]:sub(1, column), after[1]:sub(column + 1)
  local body = { prefix = table.concat(before, "\n"), suffix = table.concat(after, "\n") .. "\n", include = "holes" }
  local curl = { "curl", "-s", "-H", "content-type: application/json", "--data-binary", "@-", M.url .. "/fill" }
  running = vim.fn.jobstart(curl, {
    stdout_buffered = true,
    on_stdout = function(_, out)
      local read, answer = pcall(vim.fn.json_decode, table.concat(out, "\n"))
      -- What was asked about is still there.
      if not read or not answer.choices or tick ~= vim.api.nvim_buf_get_changedtick(buffer) then return end
      local text = vim.split(answer.choices[1].holes[1].text, "\n")
      vim.api.nvim_buf_set_text(buffer, row - 1, column, row - 1, column, text)
      -- Typing goes on behind the text.
      if vim.api.nvim_get_current_buf() ~= buffer then return end
      local last = #text == 1 and column + #text[1] or #text[#text]
      vim.api.nvim_win_set_cursor(0, { row + #text - 1, last })
    end,
  })
  vim.fn.chansend(running, vim.fn.json_encode(body))
  vim.fn.chanclose(running, "stdin")
end

return M
