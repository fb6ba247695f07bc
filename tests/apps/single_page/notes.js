// What is shown follows from the path; links change the path and load no document.

async function show() {
  const note = location.pathname.match(/^\/notes\/(\d+)$/);
  const told = await fetch("/api/told").then((response) => response.text());
  document.querySelector("main").textContent = `${note ? `note ${note[1]}` : "all notes"}, ${told}`;
}

document.addEventListener("click", (event) => {
  if (event.target.matches("a")) {
    event.preventDefault();
    history.pushState({}, "", event.target.href);
    show();
  }
});
window.addEventListener("popstate", show);
show();
