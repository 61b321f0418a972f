"use strict";
// The colours of what belongs to no group follow the page: dark on light, light on dark, dark again on paper.
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function paint(onDark) {
  const ink = onDark ? "#dddddd" : "#444444";
  for (const div of document.querySelectorAll(".plotly-graph-div")) {
    Plotly.relayout(div, { "font.color": ink });
    div.data.forEach((trace, number) => {
      if (trace.meta === "ink") Plotly.restyle(div, { "line.color": ink, "marker.color": ink }, [number]);
      if (trace.type === "parcoords") Plotly.restyle(div, { "labelfont.color": ink, "tickfont.color": ink }, [number]);
    });
  }
}

function fit(width) {
  for (const div of document.querySelectorAll(".plotly-graph-div")) {
    if (width) Plotly.relayout(div, { width: width });
    else Plotly.relayout(div, { width: null, autosize: true });
  }
}

dark.addEventListener("change", () => paint(dark.matches));
window.addEventListener("beforeprint", () => { paint(false); fit(680); });
window.addEventListener("afterprint", () => { paint(dark.matches); fit(0); });
paint(dark.matches);

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const order = head.dataset.order === "1" ? -1 : 1;
    for (const other of heads) delete other.dataset.order;
    head.dataset.order = order;
    const rows = [...table.tBodies[0].rows];
    const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const numbers = !head.classList.contains("text");
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === ""); // what is not known comes last either way
      return order * (numbers ? Number(x) - Number(y) : x.localeCompare(y));
    });
    table.tBodies[0].append(...rows);
  }));
}
