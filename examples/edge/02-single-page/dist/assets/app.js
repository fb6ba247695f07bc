document.title += ", started";
