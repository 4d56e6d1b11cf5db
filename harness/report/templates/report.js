"use strict";
// Filters, sorts and opens what the page already shows, and fills in a token's
// figures from the alignment that the page carries. The page is complete without it.
const $ = (css, root = document) => root.querySelector(css);
const $$ = (css, root = document) => [...root.querySelectorAll(css)];
const make = (tag, text, cls) => {
  const element = document.createElement(tag);
  if (cls) element.className = cls;
  if (text !== undefined) element.textContent = text;
  return element;
};
const root = document.documentElement;

for (const element of $$(".js, .controls")) element.hidden = false;

// Language and theme
const press = (buttons, chosen) => {
  for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
};
const languages = $$(".controls [data-lang]");
for (const button of languages) {
  button.addEventListener("click", () => {
    root.lang = button.dataset.lang;
    press(languages, button);
  });
}
press(languages, languages.find((button) => button.dataset.lang === root.lang));
const themes = $$(".controls [data-theme]");
for (const button of themes) {
  button.addEventListener("click", () => {
    if (button.dataset.theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = button.dataset.theme;
    press(themes, button);
  });
}
press(themes, themes[0]);

// A block that is wider than the screen can be scrolled with the keyboard.
const reachable = () => {
  for (const block of $$(".scroll, .block")) {
    // Measuring what is closed would lay it out.
    if (block.closest("details:not([open])")) continue;
    const wide = block.scrollWidth > block.clientWidth + 1 || block.scrollHeight > block.clientHeight + 1;
    if (wide) block.tabIndex = 0;
    else block.removeAttribute("tabindex");
  }
};
addEventListener("resize", reachable);
document.addEventListener("toggle", reachable, true);

// The alignment itself
const number = (value) => {
  if (value === null || value === undefined || !isFinite(value)) return "—";
  if (Math.abs(value) >= 1e4 && Math.abs(value) < 1e9) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(4)));
};
class Data {
  constructor(article) {
    this.article = article;
    this.odd = JSON.parse($("script.odd", article).textContent);
  }
  async bytes() {
    const packed = atob($("script.data", this.article).textContent);
    const raw = Uint8Array.from(packed, (char) => char.charCodeAt(0));
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Response(stream).arrayBuffer();
  }
  json() {
    this.parsed ??= this.bytes().then((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
    return this.parsed;
  }
  token(alignment, id) {
    if (id === null || id === undefined) return make("span", "—");
    const text = this.odd[id] ?? alignment.pieces[id] ?? "<" + id + ">";
    const outer = make("bdi", undefined, "t");
    const [, before, inner, after] = /^( *)([^]*?)( *)$/.exec(text);
    const parts = [[before, "esc"], [inner, id in this.odd ? "esc" : ""], [after, "esc"]];
    for (const [part, cls] of text ? parts : [["(empty)", "esc"]]) {
      if (part) outer.append(cls ? make("span", /^ +$/.test(part) ? "␣".repeat(part.length) : part, cls) : part);
    }
    return outer;
  }
}
const failing = new Set(["SILENT_DRIFT", "DIVERGENT", "NONFINITE"]);

// One token's figures, in the panel that stands there for the position to look at.
const fill = (panel, data, alignment, prompt, n) => {
  const at = prompt.positions;
  const slot = (name) => $(`[data-f="${name}"]`, panel);
  const judged = n < at.class.length;
  const name = judged ? at.class[n] ?? "none" : "none";
  for (const e of $$('.panel-head [data-f="index"]', panel)) e.textContent = n;
  const flip = judged && at.reference_token[n] !== at.candidate_token[n];
  slot("class").textContent = name === "none" ? "—" : name;
  slot("class").className = "cls " + (failing.has(name) ? "bad" : flip ? "flipped" : "dim");
  const why = $("#classes").content.querySelector(`[data-c="${name}"]`);
  slot("why").replaceChildren(why.cloneNode(true));
  slot("context").replaceChildren(data.token(alignment, prompt.context_token_ids[n]));
  for (const side of ["reference", "candidate"]) {
    slot(side).replaceChildren(data.token(alignment, judged ? at[side + "_token"][n] : null));
  }
  for (const figure of ["margin", "shift", "tolerance", "error", "reference_error"]) {
    slot(figure).textContent = number(at[figure][n]);
  }
  const equal = at.bit_equal[n];
  slot("bit_equal").textContent = equal === true ? "=" : equal === false ? "≠" : "—";
  const reach = at.tolerance[n] ? Math.min(Math.abs(at.shift[n] ?? 0) / at.tolerance[n], 2) : 0;
  const bar = $(".reach .fill", panel);
  bar.setAttribute("width", 100 * reach);
  bar.setAttribute("class", reach > 1 ? "fill over" : "fill");
  const [ours, theirs] = [at.candidate_top[n] ?? [], at.reference_top[n] ?? []];
  const rows = [];
  for (let k = 0; k < Math.max(ours.length, theirs.length); k++) {
    const row = make("tr");
    for (const entry of [theirs[k], ours[k]]) {
      const cell = make("td");
      if (entry) cell.append(data.token(alignment, entry[0]));
      row.append(cell, make("td", entry ? number(entry[1]) : "", "n"));
    }
    rows.push(row);
  }
  slot("tops").replaceChildren(...rows);
};

const everyPosition = (body, data, alignment, prompt) => {
  const at = prompt.positions;
  body.replaceChildren(
    ...at.class.map((name, n) => {
      const row = make("tr");
      const head = make("th", n, "n");
      head.scope = "row";
      const bad = failing.has(name);
      row.append(head, make("td", (bad ? "✗ " : "") + (name ?? "—"), bad ? "s bad" : "s"));
      for (const side of ["reference_token", "candidate_token"]) {
        const cell = make("td");
        cell.append(data.token(alignment, at[side][n]));
        row.append(cell);
      }
      for (const figure of ["margin", "shift", "tolerance", "error", "reference_error"]) {
        row.append(make("td", number(at[figure][n]), "n"));
      }
      return row;
    })
  );
};

// A prompt's tokens: one stop for the tab key, arrows within.
const enliven = (details, data) => {
  if (details.dataset.live) return;
  details.dataset.live = "1";
  const [list, panel] = [$(".cells", details), $(".panel", details)];
  const every = $(".every", details);
  const entry = Number(details.dataset.i);
  every?.addEventListener("toggle", async () => {
    const alignment = await data.json();
    everyPosition($("tbody", every), data, alignment, alignment.prompts[entry]);
    reachable();
  }, { once: true });
  if (!panel || !list.children.length) return;
  const first = Number(list.dataset.first);
  const cells = [...list.children];
  const start = Number($('[data-f="index"]', panel).textContent) - first;
  list.classList.add("on");
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-orientation", "horizontal");
  cells.forEach((cell) => {
    cell.setAttribute("role", "option");
    cell.setAttribute("aria-selected", "false");
    cell.tabIndex = -1;
  });
  let now = Math.min(Math.max(start, 0), cells.length - 1);
  const mark = (n) => {
    cells[now].setAttribute("aria-selected", "false");
    cells[now].tabIndex = -1;
    now = n;
    cells[now].setAttribute("aria-selected", "true");
    cells[now].tabIndex = 0;
  };
  mark(now);
  const choose = async (n, focus = true) => {
    mark(n);
    if (focus) cells[n].focus();
    const alignment = await data.json();
    if (now === n) fill(panel, data, alignment, alignment.prompts[entry], n + first);
    history.replaceState(null, "", `#${details.id}.${n + first}`);
  };
  details.choose = (position) => choose(Math.min(Math.max(position - first, 0), cells.length - 1), false);
  list.addEventListener("click", (event) => {
    const n = cells.indexOf(event.target.closest(".cells > *"));
    if (n >= 0) choose(n);
  });
  const marked = (step) => {
    for (let n = now + step; n >= 0 && n < cells.length; n += step) if (cells[n].className.trim()) return n;
    return now;
  };
  list.addEventListener("keydown", (event) => {
    const to = {
      ArrowLeft: () => Math.max(now - 1, 0),
      ArrowRight: () => Math.min(now + 1, cells.length - 1),
      ArrowUp: () => marked(-1),
      ArrowDown: () => marked(1),
      Home: () => 0,
      End: () => cells.length - 1,
      Enter: () => now,
    }[event.key];
    if (!to || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    choose(to());
  });
};

const value = (row, column) => $("." + column, row).textContent.trim();
const ranks = { bad: 0, open: 1, good: 2 };
const tools = (article) => {
  const list = $(".plist ul", article);
  if (!list) return;
  const items = [...list.children];
  const original = new Map(items.map((item, n) => [item, n]));
  const chips = $$("[data-filter]", article);
  const [search, status] = [$("input[type=search]", article), $(".shown", article)];
  let wanted = "";
  const filter = () => {
    const text = search.value.toLowerCase();
    let left = 0;
    for (const item of items) {
      const fits = (!wanted || item.dataset.v === wanted) && value(item, "id").toLowerCase().includes(text);
      item.hidden = !fits;
      left += fits;
    }
    for (const e of $$('[data-f="left"]', status)) e.textContent = left;
    for (const e of $$('[data-f="all"]', status)) e.textContent = items.length;
  };
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      wanted = chip.dataset.filter;
      press(chips, chip);
      filter();
    });
  }
  search.addEventListener("input", filter);
  filter();
  const key = (item, column) => {
    if (column === "vd") return ranks[item.dataset.tone];
    if (column === "id" || column === "kc") return value(item, column);
    return parseFloat(value(item, column).replace(/,/g, ""));
  };
  const heads = $$("[data-sort]", article);
  for (const head of heads) {
    head.addEventListener("click", () => {
      const before = head.dataset.dir;
      const dir = before === "up" ? "down" : before === "down" ? "" : "up";
      for (const other of heads) {
        delete other.dataset.dir;
        other.removeAttribute("aria-pressed");
      }
      if (dir) {
        head.dataset.dir = dir;
        head.setAttribute("aria-pressed", "true");
      }
      const sign = dir === "down" ? -1 : 1;
      const sorted = [...items].sort((one, two) => {
        const order = original.get(one) - original.get(two);
        if (!dir) return order;
        const [a, b] = [key(one, head.dataset.sort), key(two, head.dataset.sort)];
        if (typeof a === "string") return sign * a.localeCompare(b) || order;
        if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b) || order;
        return sign * (a - b) || order;
      });
      list.append(...sorted);
    });
  }
};

for (const article of $$("article[data-a]")) {
  const data = new Data(article);
  tools(article);
  for (const details of $$("details.prompt", article)) {
    details.addEventListener("toggle", () => details.open && enliven(details, data));
    details.live = () => enliven(details, data);
  }
  const map = $("svg.heat", article);
  if (map) {
    const anchors = map.dataset.rows.split(" ");
    map.classList.add("on");
    map.addEventListener("click", (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
      const row = Math.floor((point.y - 18) / 14);
      const column = Math.floor(((point.x - 150) / 640) * Number(map.dataset.cells));
      if (!anchors[row] || anchors[row] === "-" || column < 0) return;
      location.hash = `${anchors[row]}.${column * Number(map.dataset.step)}`;
    });
  }
  const button = $(".download", article);
  button.addEventListener("click", async () => {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([await data.bytes()], { type: "application/json" }));
    link.download = button.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}

// A link to a prompt opens it; one to a token also shows its figures.
const open = () => {
  const [anchor, position] = decodeURIComponent(location.hash.slice(1)).split(".");
  const target = anchor && document.getElementById(anchor);
  if (!target || !target.matches("details.prompt")) return;
  target.closest("li").hidden = false;
  target.open = true;
  target.live();
  if (position !== undefined) target.choose?.(Number(position));
  target.scrollIntoView();
};
addEventListener("hashchange", open);
open();
reachable();
