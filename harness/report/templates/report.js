"use strict";
// Filters and sorts the parity tables. The page is complete without it.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const number = (cell) => parseFloat(cell.textContent.replace(/,/g, ""));
  table.tHead.querySelectorAll("th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((one, two) => {
        const [a, b] = [one.cells[column], two.cells[column]];
        const [x, y] = [number(a), number(b)];
        if (!head.classList.contains("n")) return a.textContent.localeCompare(b.textContent);
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || 0;
        return x - y;
      });
      if (down) rows.reverse();
      body.append(...rows);
    });
  });
  const tools = document.getElementById(table.id + "-tools");
  const [text, verdict, count] = tools.querySelectorAll("input, select, output");
  for (const word of new Set([...body.rows].map((row) => row.dataset.verdict))) {
    verdict.append(new Option(word, word));
  }
  const filter = () => {
    let left = 0;
    for (const row of body.rows) {
      const fits =
        row.textContent.toLowerCase().includes(text.value.toLowerCase()) &&
        (!verdict.value || row.dataset.verdict === verdict.value);
      row.hidden = !fits;
      const details = document.getElementById(row.dataset.details);
      if (details) details.hidden = !fits;
      left += fits;
    }
    count.value = left + " of " + body.rows.length;
  };
  text.addEventListener("input", filter);
  verdict.addEventListener("change", filter);
  filter();
  tools.hidden = false;
}
// A link to a prompt opens it.
const open = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
};
addEventListener("hashchange", open);
open();
